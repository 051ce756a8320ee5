{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='cluster_id',
    post_hook="{{ remove_husks('n_nodes') }}"
) }}
{%- set told = fingerprint(['c.node_key', 'c.fingerprint']) -%}
-- How large clusters are, and whether a profile may have as much: of each kind, and
-- in all. A run counts those anew that are others than were counted.
with {% if is_incremental() -%}
sides {{ as_read_again() }} (
    select c.cluster_id as group_key, {{ told }} as fingerprint from {{ ref('int_identity_clusters') }} as c
    union all
    select cluster_id as group_key, fingerprint from {{ this }}
),

{{ changed_groups('sides') }}

{% endif -%}
counted as (
    select c.cluster_id, n.id_type, count(*) as n_nodes, bit_xor({{ told }}) as fingerprint
    from {{ ref('int_identity_clusters') }} as c
    {%- if is_incremental() %}
    join changed as h on h.group_key = c.cluster_id
    {%- endif %}
    join {{ ref('identity_nodes') }} as n on n.node_key = c.node_key
    group by c.cluster_id, n.id_type
),

judged as (
    select
        c.cluster_id,
        cast(sum(c.n_nodes) as int64) as n_nodes,
        max(case when c.n_nodes > k.profile_limit then 1 else 0 end) = 1 or sum(c.n_nodes) > {{ var('max_profile_nodes') }} as is_too_large,
        bit_xor(c.fingerprint) as fingerprint
    from counted as c
    join {{ ref('identifier_kinds') }} as k on k.kind = c.id_type
    group by c.cluster_id
)

-- A cluster that is no more has a row of nothing else, by which its old one goes.
select
    {% if is_incremental() %}h.group_key as cluster_id{% else %}j.cluster_id{% endif %},
    j.n_nodes,
    j.is_too_large,
    j.fingerprint
from {% if is_incremental() %}changed as h
left join judged as j on j.cluster_id = h.group_key{% else %}judged as j{% endif %}
