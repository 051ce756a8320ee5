{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='cluster_id',
    post_hook="{{ remove_husks('node_key') }}"
) }}
{%- set told = fingerprint(['c.node_key', 'c.fingerprint', "coalesce(p.part_id, '')"]) -%}
-- Who is who. A profile is named after its founder, the identifier seen first:
-- so it keeps its id when others join, and gets it back when they leave. A
-- founder that was given a name keeps it: its pseudonym was rotated, or it was
-- erased and came back.
-- A run makes the profiles of a cluster anew if it, or a part of it, is another.
with names as (
    select pseudonym, min(profile_id) as profile_id from {{ source('sluis', 'profile_names') }} group by pseudonym
),
{%- if is_incremental() %}

sides {{ as_read_again() }} (
    select c.cluster_id as group_key, {{ told }} as fingerprint
    from {{ ref('int_identity_clusters') }} as c
    left join {{ ref('int_identity_parts') }} as p on p.node_key = c.node_key
    union all
    select cluster_id as group_key, fingerprint from {{ this }}
),

{{ changed_groups('sides') }}
{%- endif %}

ranked as (
    select
        c.node_key,
        first_value(c.node_key) over (
            partition by coalesce(p.part_id, c.cluster_id)
            order by n.first_seen_at, case when m.pseudonym is null then 1 else 0 end, c.node_key
        ) as founder_node,
        c.cluster_id,
        {{ told }} as fingerprint
    from {{ ref('int_identity_clusters') }} as c
    {%- if is_incremental() %}
    join changed as h on h.group_key = c.cluster_id
    {%- endif %}
    join {{ ref('identity_nodes') }} as n on n.node_key = c.node_key
    left join {{ ref('int_identity_parts') }} as p on p.node_key = c.node_key
    left join names as m on m.pseudonym = c.node_key
)

-- A cluster that is no more has a row of nothing else, by which its old ones go.
select
    r.node_key,
    coalesce(m.profile_id, concat('pr_', substr({{ sha256_hex('r.founder_node') }}, 1, 24))) as profile_id,
    r.founder_node,
    {% if is_incremental() %}h.group_key as cluster_id{% else %}r.cluster_id{% endif %},
    r.fingerprint
from {% if is_incremental() %}changed as h
left join ranked as r on r.cluster_id = h.group_key{% else %}ranked as r{% endif %}
left join names as m on m.pseudonym = r.founder_node
