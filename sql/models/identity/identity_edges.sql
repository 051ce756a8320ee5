-- The links that may be used now: neither identifier refuses to be recognised.
-- The lower the tier, the more a link says: 0 was declared, and else it is the
-- sum of how well the two kinds tell who somebody is.
select
    l.*,
    case when l.is_declared then 0 else ka.priority + kb.priority end as tier
from {{ ref('identity_links') }} as l
join {{ ref('identifier_kinds') }} as ka on ka.kind = l.kind_a
join {{ ref('identifier_kinds') }} as kb on kb.kind = l.kind_b
left join {{ ref('consent_node_state') }} as a on a.node_key = l.node_a and a.purpose = 'identity'
left join {{ ref('consent_node_state') }} as b on b.node_key = l.node_b and b.purpose = 'identity'
where coalesce(a.granted, true) and coalesce(b.granted, true)
