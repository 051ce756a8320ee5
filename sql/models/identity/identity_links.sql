-- Which identifiers were seen together on events collected with consent to be
-- recognised, whatever was said since.
with joining as (
    select i.event_id, i.node_key, i.occurred_at
    from {{ ref('stg_identifiers') }} as i
    join {{ ref('stg_events') }} as e on e.event_id = i.event_id
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where k.joins and {{ array_contains('e.purposes', "'identity'") }}
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
