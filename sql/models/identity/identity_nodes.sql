{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='node_key',
    post_hook="{{ remove_husks('n_events') }}"
) }}
-- Every identifier that stands for a person, once. What a bot did belongs to nobody.
-- A run makes those anew whose events are others than they are made of.
with seen {{ as_read_again() }} (
    select i.node_key, i.id_type, d.first_occurred_at, d.last_occurred_at, d.n_events, d.fingerprint
    from {{ ref('stg_identifier_days') }} as d
    join {{ ref('stg_identifiers') }} as i on i.identifier_set = d.identifier_set
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where not d.is_bot
),
{%- if is_incremental() %}

sides {{ as_read_again() }} (
    select node_key as group_key, fingerprint from seen
    union all
    select node_key as group_key, fingerprint from {{ this }}
),

{{ changed_groups('sides') }}
{%- endif %}

nodes as (
    select
        s.node_key,
        min(s.id_type) as id_type,
        min(s.first_occurred_at) as first_seen_at,
        max(s.last_occurred_at) as last_seen_at,
        cast(sum(s.n_events) as int64) as n_events,
        bit_xor(s.fingerprint) as fingerprint
    from seen as s
    {%- if is_incremental() %}
    join changed as c on c.group_key = s.node_key
    {%- endif %}
    group by s.node_key
)

-- What is no more has a row of nothing else, by which its old one goes.
select
    {% if is_incremental() %}c.group_key as node_key{% else %}n.node_key{% endif %},
    n.id_type,
    n.first_seen_at,
    n.last_seen_at,
    n.n_events,
    n.fingerprint
from {% if is_incremental() %}changed as c
left join nodes as n on n.node_key = c.group_key{% else %}nodes as n{% endif %}
