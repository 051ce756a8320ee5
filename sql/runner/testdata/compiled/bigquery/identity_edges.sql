-- The links that may be used now: neither identifier refuses to be recognised.
-- The lower the tier, the more a link says: 0 was declared, and else it is the
-- sum of how well the two kinds tell who somebody is.
-- A run makes those of an identifier anew that are others than there are.
with refusing as (
    select node_key from sluis_models.consent_node_state where purpose = 'identity' and not granted
),

usable as (
    select
        l.* replace (farm_fingerprint(concat(cast(l.node_b as string), ' ', cast(l.fingerprint as string), ' ', cast(case when l.is_declared then 0 else ka.priority + kb.priority end as string))) as fingerprint),
        case when l.is_declared then 0 else ka.priority + kb.priority end as tier
    from sluis_models.identity_links as l
    join sluis_models.identifier_kinds as ka on ka.kind = l.kind_a
    join sluis_models.identifier_kinds as kb on kb.kind = l.kind_b
    left join refusing as a on a.node_key = l.node_a
    left join refusing as b on b.node_key = l.node_b
    where a.node_key is null and b.node_key is null
)

-- An identifier that has none any more has a row of nothing else, by which its old ones go.
select
    e.node_a,
    e.node_b,
    e.kind_a,
    e.kind_b,
    e.is_declared,
    e.first_seen_at,
    e.last_seen_at,
    e.n_events,
    e.tier,
    e.fingerprint
from usable as e
