{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='node_a',
    post_hook="{{ remove_husks('node_b') }}"
) }}
-- Which identifiers were seen together on events collected with consent to be
-- recognised, whatever was said since. Two of one kind are declared to be one
-- person's by an alias event, and by nothing else.
-- A run makes those of an identifier anew whose events are others than they are
-- made of.
with together as (
    select
        identifier_set,
        is_alias,
        min(first_occurred_at) as first_seen_at,
        max(last_occurred_at) as last_seen_at,
        sum(n_events) as n_events,
        bit_xor(fingerprint) as fingerprint
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
),

pairs {{ as_read_again() }} (
    select
        a.node_key as node_a,
        b.node_key as node_b,
        a.id_type as kind_a,
        b.id_type as kind_b,
        t.is_alias,
        t.first_seen_at,
        t.last_seen_at,
        t.n_events,
        {{ fingerprint(['b.node_key', 'coalesce(t.fingerprint, 0)']) }} as fingerprint
    from together as t
    join joining as a on a.identifier_set = t.identifier_set
    join joining as b on b.identifier_set = t.identifier_set and a.node_key < b.node_key
),
{%- if is_incremental() %}

sides {{ as_read_again() }} (
    select node_a as group_key, fingerprint from pairs
    union all
    select node_a as group_key, fingerprint from {{ this }}
),

{{ changed_groups('sides') }}
{%- endif %}

links as (
    select
        p.node_a,
        p.node_b,
        min(p.kind_a) as kind_a,
        min(p.kind_b) as kind_b,
        max(case when p.is_alias and p.kind_a = p.kind_b then 1 else 0 end) = 1 as is_declared,
        min(p.first_seen_at) as first_seen_at,
        max(p.last_seen_at) as last_seen_at,
        cast(sum(p.n_events) as int64) as n_events,
        bit_xor(p.fingerprint) as fingerprint
    from pairs as p
    {%- if is_incremental() %}
    join changed as c on c.group_key = p.node_a
    {%- endif %}
    group by p.node_a, p.node_b
)

-- An identifier that has none any more has a row of nothing else, by which its old ones go.
select
    {% if is_incremental() %}c.group_key as node_a{% else %}l.node_a{% endif %},
    l.node_b,
    l.kind_a,
    l.kind_b,
    l.is_declared,
    l.first_seen_at,
    l.last_seen_at,
    l.n_events,
    l.fingerprint
from {% if is_incremental() %}changed as c
left join links as l on l.node_a = c.group_key{% else %}links as l{% endif %}
