-- Every identifier that stands for a person, once. What a bot did belongs to nobody.
select
    i.node_key,
    min(i.id_type) as id_type,
    min(d.first_occurred_at) as first_seen_at,
    max(d.last_occurred_at) as last_seen_at,
    cast(sum(d.n_events) as int64) as n_events
from {{ ref('stg_identifier_days') }} as d
join {{ ref('stg_identifiers') }} as i on i.identifier_set = d.identifier_set
join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
where not d.is_bot
group by i.node_key
