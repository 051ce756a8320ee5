-- Which identifiers were seen together on events collected with consent to be
-- recognised, whatever was said since. Two of one kind are declared to be one
-- person's by an alias event, and by nothing else.
with joining as (
    select i.event_id, i.node_key, i.id_type, i.occurred_at, e.type = 'alias' as is_alias
    from {{ ref('stg_identifiers') }} as i
    join {{ ref('stg_events') }} as e on e.event_id = i.event_id
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where k.joins and {{ array_contains('e.purposes', "'identity'") }}
)

select
    a.node_key as node_a,
    b.node_key as node_b,
    min(a.id_type) as kind_a,
    min(b.id_type) as kind_b,
    max(case when a.is_alias and a.id_type = b.id_type then 1 else 0 end) = 1 as is_declared,
    min(a.occurred_at) as first_seen_at,
    max(a.occurred_at) as last_seen_at,
    cast(count(*) as int64) as n_events
from joining as a
join joining as b on b.event_id = a.event_id and a.node_key < b.node_key
group by a.node_key, b.node_key
