-- The connected components of this graph. Each node is in it with an edge to
-- itself, so that one without neighbours is a component of its own.
select node_a, node_b from sluis_models.identity_edges
union all
select node_key as node_a, node_key as node_b from sluis_models.identity_nodes
