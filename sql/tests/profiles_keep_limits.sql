-- No profile has more of a kind than it may have. Only clusters that had were cut.
select p.part_id, n.id_type
from {{ ref('int_identity_parts') }} as p
join {{ ref('identity_nodes') }} as n on n.node_key = p.node_key
join {{ ref('identifier_kinds') }} as k on k.kind = n.id_type
group by p.part_id, n.id_type, k.profile_limit
having count(distinct p.entity_id) > k.profile_limit
