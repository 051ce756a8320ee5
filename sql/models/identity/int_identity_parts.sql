-- The clusters that have more of a kind than a profile may have, in parts. This is
-- the graph of these clusters alone: the others are profiles as they are. Links
-- are followed in their place, the best first.
select
    e.node_a,
    e.node_b,
    e.kind_a,
    e.kind_b,
    ka.profile_limit as limit_a,
    kb.profile_limit as limit_b,
    {{ var('max_profile_nodes') }} as max_nodes,
    e.is_declared,
    row_number() over (partition by c.cluster_id order by e.tier, e.last_seen_at desc, e.node_a, e.node_b) as place
from {{ ref('int_identity_sizes') }} as t
join {{ ref('int_identity_clusters') }} as c on c.cluster_id = t.cluster_id
join {{ ref('identity_edges') }} as e on e.node_a = c.node_key
left join {{ ref('int_identity_weak_edges') }} as w on w.node_a = e.node_a and w.node_b = e.node_b
join {{ ref('identifier_kinds') }} as ka on ka.kind = e.kind_a
join {{ ref('identifier_kinds') }} as kb on kb.kind = e.kind_b
where t.is_too_large and w.node_a is null
