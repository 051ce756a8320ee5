{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_rows(),
    unique_key='audience_event_id',
    full_refresh=false
) }}
{#- The audiences that are followed. Add yours here. -#}
{%- set audiences = ['pricing_and_chat', 'asked_about_prices', 'good_customers', 'lapsed_customers', 'colleagues_of_customers'] -%}
-- Who entered which audience and who left it, and why, as the runs of the models
-- found it: nothing else remembers that, so it is never built anew. Of somebody who
-- is no more, having been erased or joined with another, it forgets who it was.
with members as (
    {%- for audience in audiences %}
    {% if not loop.first %}union all {% endif %}select '{{ audience }}' as audience, profile_id from {{ ref(audience) }}
    {%- endfor %}
),

purposes as (
    {%- for audience in audiences %}
    {% if not loop.first %}union all {% endif %}select '{{ audience }}' as audience, '{{ audience_purpose(audience) }}' as purpose
    {%- endfor %}
),

known as (
    {%- if is_incremental() %}
    select audience_event_id, run, audience, profile_id, action, reason, noticed_at from {{ this }}
    {%- else %}
    {#- Nothing, with these columns. -#}
    select
        cast(null as string) as audience_event_id, cast(null as int64) as run, audience, profile_id,
        cast(null as string) as action, cast(null as string) as reason, {{ as_of() }} as noticed_at
    from members
    where false
    {%- endif %}
),

latest as (
    select audience, profile_id, action
    from known
    where profile_id is not null
    qualify row_number() over (partition by audience, profile_id order by run desc) = 1
),

changed as (
    select m.audience, m.profile_id, 'entered' as action, 'criteria' as reason
    from members as m
    left join latest as l on l.audience = m.audience and l.profile_id = m.profile_id
    where coalesce(l.action, 'exited') = 'exited'

    union all

    select
        l.audience,
        l.profile_id,
        'exited' as action,
        case when p.profile_id is null then 'gone' when coalesce(c.allowed, false) then 'criteria' else 'consent' end as reason
    from latest as l
    join purposes as u on u.audience = l.audience
    left join members as m on m.audience = l.audience and m.profile_id = l.profile_id
    left join {{ ref('profiles') }} as p on p.profile_id = l.profile_id
    left join {{ ref('consent_profile') }} as c on c.profile_id = l.profile_id and c.purpose = u.purpose
    where l.action = 'entered' and m.profile_id is null
),

numbered as (
    select
        c.*,
        (select coalesce(max(run), 0) + 1 from known) as run,
        row_number() over (order by c.audience, c.profile_id) as place
    from changed as c
)

select
    cast(n.run as string) || '-' || cast(n.place as string) as audience_event_id,
    cast(n.run as int64) as run,
    n.audience,
    case when p.profile_id is not null then n.profile_id end as profile_id,
    n.action,
    n.reason,
    {{ as_of() }} as noticed_at
from numbered as n
left join {{ ref('profiles') }} as p on p.profile_id = n.profile_id

union all

select k.audience_event_id, k.run, k.audience, cast(null as string) as profile_id, k.action, k.reason, k.noticed_at
from known as k
left join {{ ref('profiles') }} as p on p.profile_id = k.profile_id
where k.profile_id is not null and p.profile_id is null
