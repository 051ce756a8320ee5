-- Every identifier that stands for a person, once.
select
    i.node_key,
    min(i.id_type) as id_type,
    min(i.occurred_at) as first_seen_at,
    max(i.occurred_at) as last_seen_at,
    count(*) as n_events
from sluis_models.stg_identifiers as i
join sluis_models.identifier_kinds as k on k.kind = i.id_type
group by i.node_key
