-- Every identifier that stands for a person, once. What a bot did belongs to nobody.
-- A run makes those anew whose events are others than they are made of.
with seen as (
    select i.node_key, i.id_type, d.first_occurred_at, d.last_occurred_at, d.n_events, d.fingerprint
    from sluis_models.stg_identifier_days as d
    join sluis_models.stg_identifiers as i on i.identifier_set = d.identifier_set
    join sluis_models.identifier_kinds as k on k.kind = i.id_type
    where not d.is_bot
),

nodes as (
    select
        s.node_key,
        min(s.id_type) as id_type,
        min(s.first_occurred_at) as first_seen_at,
        max(s.last_occurred_at) as last_seen_at,
        cast(sum(s.n_events) as int64) as n_events,
        bit_xor(s.fingerprint) as fingerprint
    from seen as s
    group by s.node_key
)

-- What is no more has a row of nothing else, by which its old one goes.
select
    n.node_key,
    n.id_type,
    n.first_seen_at,
    n.last_seen_at,
    n.n_events,
    n.fingerprint
from nodes as n
