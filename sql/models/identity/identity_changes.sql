{{ config(
    materialized='incremental', on_schema_change='fail',
    incremental_strategy=replace_rows(),
    unique_key='change_id',
    full_refresh=false
) }}
-- Which identifiers moved to another profile, as the runs of the models found it.
-- An identifier is alone until it is said to have joined somebody, so most of them
-- have no row. It is state, which nothing could build anew. Of identifiers and
-- founders that are no more, it forgets who they were.
with known as (
    {%- if is_incremental() %}
    select change_id, run, node_key, kind, from_profile_id, from_founder, to_profile_id, to_founder, noticed_at from {{ this }}
    {%- else %}
    {#- Nothing, with these columns. -#}
    select
        cast(null as string) as change_id, cast(null as int64) as run, node_key, cast(null as string) as kind,
        profile_id as from_profile_id, founder_node as from_founder, profile_id as to_profile_id, founder_node as to_founder,
        {{ as_of() }} as noticed_at
    from {{ ref('identity_map') }}
    where false
    {%- endif %}
),

latest as (
    select node_key, to_founder, to_profile_id
    from known
    where node_key is not null
    qualify row_number() over (partition by node_key order by run desc) = 1
),

moved as (
    select
        m.node_key,
        coalesce(l.to_founder, m.node_key) as from_founder,
        l.to_profile_id as from_profile_id,
        m.founder_node as to_founder,
        m.profile_id as to_profile_id
    from {{ ref('identity_map') }} as m
    left join latest as l on l.node_key = m.node_key
    where m.founder_node <> coalesce(l.to_founder, m.node_key)
),

numbered as (
    select
        v.*,
        (select coalesce(max(run), 0) + 1 from known) as run,
        row_number() over (order by v.node_key) as place
    from moved as v
),

told as (
    select
        cast(n.run as string) || '-' || cast(n.place as string) as change_id,
        cast(n.run as int64) as run,
        n.node_key,
        case when n.to_founder = n.node_key then 'left' when n.from_founder = n.node_key then 'joined' else 'moved' end as kind,
        -- Of who was alone until now, the id is the one it would have by itself.
        coalesce(n.from_profile_id, a.alias_id) as from_profile_id,
        n.from_founder,
        n.to_profile_id,
        n.to_founder,
        {{ as_of() }} as noticed_at
    from numbered as n
    left join {{ ref('identity_aliases') }} as a on a.founder_node = n.node_key
    {%- if is_incremental() %}
    union all
    -- What there is to forget.
    select k.*
    from known as k
    left join {{ ref('identity_map') }} as n on n.node_key = k.node_key
    left join {{ ref('identity_map') }} as f on f.node_key = k.from_founder
    left join {{ ref('identity_map') }} as t on t.node_key = k.to_founder
    where (k.node_key is not null and n.node_key is null)
        or (k.from_founder is not null and f.node_key is null)
        or (k.to_founder is not null and t.node_key is null)
    {%- endif %}
)

select
    t.change_id,
    t.run,
    n.node_key,
    t.kind,
    case when n.node_key is not null and f.node_key is not null then t.from_profile_id end as from_profile_id,
    case when n.node_key is not null then f.node_key end as from_founder,
    case when n.node_key is not null and o.node_key is not null then t.to_profile_id end as to_profile_id,
    case when n.node_key is not null then o.node_key end as to_founder,
    t.noticed_at
from told as t
left join {{ ref('identity_map') }} as n on n.node_key = t.node_key
left join {{ ref('identity_map') }} as f on f.node_key = t.from_founder
left join {{ ref('identity_map') }} as o on o.node_key = t.to_founder
