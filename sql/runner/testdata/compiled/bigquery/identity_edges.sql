-- Which identifiers were seen together, where that may be used: the event was
-- collected with consent to be recognised, and neither identifier refuses now.
with joining as (
    select i.event_id, i.node_key, i.occurred_at
    from sluis_models.stg_identifiers as i
    join sluis_models.stg_events as e on e.event_id = i.event_id
    join sluis_models.identifier_kinds as k on k.kind = i.id_type
    left join sluis_models.consent_node_state as s on s.node_key = i.node_key and s.purpose = 'identity'
    where k.joins
        and coalesce('identity' in unnest(e.purposes), false)
        and coalesce(s.granted, true)
)

select
    a.node_key as node_a,
    b.node_key as node_b,
    min(a.occurred_at) as first_seen_at,
    max(a.occurred_at) as last_seen_at,
    count(*) as n_events
from joining as a
join joining as b on b.event_id = a.event_id and a.node_key < b.node_key
group by a.node_key, b.node_key
