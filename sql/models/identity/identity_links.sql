-- Which identifiers were seen together on events collected with consent to be
-- recognised, whatever was said since. Two of one kind are declared to be one
-- person's by an alias event, and by nothing else.
with together as (
    select
        identifier_set,
        is_alias,
        min(first_occurred_at) as first_seen_at,
        max(last_occurred_at) as last_seen_at,
        sum(n_events) as n_events
    from {{ ref('stg_identifier_days') }}
    -- Of one identifier there is no space in it.
    where identifier_set like '% %' and not is_bot and {{ array_contains("split(purposes, ',')", "'identity'") }}
    group by identifier_set, is_alias
),

joining as (
    select i.identifier_set, i.node_key, i.id_type
    from {{ ref('stg_identifiers') }} as i
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where k.joins
)

select
    a.node_key as node_a,
    b.node_key as node_b,
    min(a.id_type) as kind_a,
    min(b.id_type) as kind_b,
    max(case when t.is_alias and a.id_type = b.id_type then 1 else 0 end) = 1 as is_declared,
    min(t.first_seen_at) as first_seen_at,
    max(t.last_seen_at) as last_seen_at,
    cast(sum(t.n_events) as int64) as n_events
from together as t
join joining as a on a.identifier_set = t.identifier_set
join joining as b on b.identifier_set = t.identifier_set and a.node_key < b.node_key
group by a.node_key, b.node_key
