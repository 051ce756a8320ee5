-- The connected components of this graph. Each node is in it with an edge to
-- itself, so that one without neighbours is a component of its own.
select e.node_a, e.node_b
from sluis_models.identity_edges as e
left join sluis_models.int_identity_weak_edges as w on w.node_a = e.node_a and w.node_b = e.node_b
where w.node_a is null
union all
select node_key as node_a, node_key as node_b from sluis_models.identity_nodes
