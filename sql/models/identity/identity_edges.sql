{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='node_a',
    post_hook="{{ remove_husks('node_b') }}"
) }}
{%- set tier = 'case when l.is_declared then 0 else ka.priority + kb.priority end' -%}
-- The links that may be used now: neither identifier refuses to be recognised.
-- The lower the tier, the more a link says: 0 was declared, and else it is the
-- sum of how well the two kinds tell who somebody is.
-- A run makes those of an identifier anew that are others than there are.
with refusing as (
    select node_key from {{ ref('consent_node_state') }} where purpose = 'identity' and not granted
),

usable {{ as_read_again() }} (
    select
        l.* replace ({{ fingerprint(['l.node_b', 'l.fingerprint', tier]) }} as fingerprint),
        {{ tier }} as tier
    from {{ ref('identity_links') }} as l
    join {{ ref('identifier_kinds') }} as ka on ka.kind = l.kind_a
    join {{ ref('identifier_kinds') }} as kb on kb.kind = l.kind_b
    left join refusing as a on a.node_key = l.node_a
    left join refusing as b on b.node_key = l.node_b
    where a.node_key is null and b.node_key is null
){% if is_incremental() %},

sides {{ as_read_again() }} (
    select node_a as group_key, fingerprint from usable
    union all
    select node_a as group_key, fingerprint from {{ this }}
),

{{ changed_groups('sides') }}

wanted as (
    select u.* from usable as u join changed as c on c.group_key = u.node_a
){% endif %}

-- An identifier that has none any more has a row of nothing else, by which its old ones go.
select
    {% if is_incremental() %}c.group_key as node_a{% else %}e.node_a{% endif %},
    e.node_b,
    e.kind_a,
    e.kind_b,
    e.is_declared,
    e.first_seen_at,
    e.last_seen_at,
    e.n_events,
    e.tier,
    e.fingerprint
from {% if is_incremental() %}changed as c
left join wanted as e on e.node_a = c.group_key{% else %}usable as e{% endif %}
