-- The connected components of this graph. Each node is in it with an edge to
-- itself, so that one without neighbours is a component of its own. What a cluster
-- is judged by is evidence, too: it tells what reads the clusters of a change.
with names as (
    select pseudonym, min(profile_id) as profile_id from sluis.profile_names group by pseudonym
)

select e.node_a, e.node_b, cast(hash(e.node_a, e.node_b) >> 1 as int64) as evidence
from sluis_models.identity_edges as e
left join sluis_models.int_identity_weak_edges as w on w.node_a = e.node_a and w.node_b = e.node_b
where w.node_a is null
union all
select
    n.node_key as node_a,
    n.node_key as node_b,
    cast(hash(n.node_key, n.id_type, n.first_seen_at, coalesce(m.profile_id, ''), coalesce(k.profile_limit, -1), 200) >> 1 as int64) as evidence
from sluis_models.identity_nodes as n
join sluis_models.identifier_kinds as k on k.kind = n.id_type
left join names as m on m.pseudonym = n.node_key
