{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_rows(),
    unique_key='audience_event_id',
    full_refresh=false
) }}
-- Who entered which audience and who left it, and why, as the runs of the models
-- found it: nothing else remembers that, so it is never built anew. Of somebody who
-- is no more, having been erased or joined with another, it forgets who it was.
-- depends_on: {{ ref('profile_events') }}
with declared as (
    {{ audiences_declared() | indent(4) }}
),

members as (
    select audience, profile_id, account_id, coalesce(profile_id, account_id) as member from {{ ref('audience_members') }}
),

published as (
    select audience, count(*) as n from members group by audience
),

known as (
    {%- if is_incremental() %}
    select audience_event_id, run, audience, profile_id, account_id, action, reason, definition, began_with, noticed_at from {{ this }}
    {%- else %}
    {#- Nothing, with these columns. -#}
    select
        cast(null as string) as audience_event_id, cast(null as int64) as run, audience, profile_id, account_id,
        cast(null as string) as action, cast(null as string) as reason, cast(null as string) as definition,
        cast(null as string) as began_with, {{ as_of() }} as noticed_at
    from members
    where false
    {%- endif %}
),

latest as (
    select *, coalesce(profile_id, account_id) as member
    from known
    where coalesce(profile_id, account_id) is not null
    qualify row_number() over (partition by audience, coalesce(profile_id, account_id) order by run desc) = 1
),

-- What each audience is now, where that is not what it was.
defined as (
    select d.audience, d.definition, k.audience is not null as is_changed
    from declared as d
    left join (
        select audience, definition
        from known
        where action = 'defined'
        qualify row_number() over (partition by audience order by run desc) = 1
    ) as k on k.audience = d.audience
    where k.definition is distinct from d.definition
),

agreed as (
    select purpose, profile_id as member from {{ ref('consent_profile') }} where allowed
    {%- if accounts_followed() %}
    union all
    select b.purpose, b.account_id as member
    from (
        {{ consenting_by_account() | indent(8) }}
    ) as b
    join (select distinct purpose, min_members_consenting from declared where entity = 'account') as d
        on d.purpose = b.purpose
    where b.n_consenting >= d.min_members_consenting
    {%- endif %}
),

leaving as (
    select
        l.audience,
        l.profile_id,
        l.account_id,
        l.member,
        l.audience_event_id as began_with,
        h.profile_id as heir,
        case
            when l.profile_id is not null and p.profile_id is null then case when h.profile_id is null then 'erased' else 'merged' end
            when d.audience is null then 'definition'
            when a.member is null then 'consent'
            when c.is_changed then 'definition'
            when s.n is null and d.min_size > 1 then 'limit'
            else 'criteria'
        end as reason
    from latest as l
    left join declared as d on d.audience = l.audience
    left join defined as c on c.audience = l.audience
    left join members as m on m.audience = l.audience and m.member = l.member
    left join published as s on s.audience = l.audience
    left join agreed as a on a.purpose = d.purpose and a.member = l.member
    left join {{ ref('profiles') }} as p on p.profile_id = l.profile_id
    left join {{ ref('identity_aliases') }} as h on h.alias_id = l.profile_id
    where l.action = 'entered' and m.member is null
),

absorbed as (
    select distinct audience, heir as member from leaving where reason = 'merged'
),

changed as (
    select
        audience, cast(null as string) as profile_id, cast(null as string) as account_id, cast(null as string) as member,
        'defined' as action, 'definition' as reason, cast(null as string) as began_with
    from defined

    union all

    select
        m.audience, m.profile_id, m.account_id, m.member, 'entered' as action,
        case
            when h.member is not null then 'merged'
            when c.is_changed then 'definition'
            when l.reason in ('consent', 'limit') then l.reason
            else 'criteria'
        end as reason,
        cast(null as string) as began_with
    from members as m
    left join latest as l on l.audience = m.audience and l.member = m.member
    left join defined as c on c.audience = m.audience
    left join absorbed as h on h.audience = m.audience and h.member = m.member
    where coalesce(l.action, 'exited') = 'exited'

    union all

    select audience, profile_id, account_id, member, 'exited' as action, reason, began_with
    from leaving
),

numbered as (
    select
        c.*,
        (select coalesce(max(run), 0) + 1 from known) as run,
        row_number() over (order by c.audience, coalesce(c.member, '')) as place
    from changed as c
)

select
    cast(n.run as string) || '-' || cast(n.place as string) as audience_event_id,
    cast(n.run as int64) as run,
    n.audience,
    case when p.profile_id is not null then n.profile_id end as profile_id,
    n.account_id,
    n.action,
    n.reason,
    d.definition,
    n.began_with,
    {{ as_of() }} as noticed_at
from numbered as n
left join declared as d on d.audience = n.audience
left join {{ ref('profiles') }} as p on p.profile_id = n.profile_id

union all

select k.audience_event_id, k.run, k.audience, cast(null as string) as profile_id, k.account_id, k.action, k.reason, k.definition, k.began_with, k.noticed_at
from known as k
left join {{ ref('profiles') }} as p on p.profile_id = k.profile_id
where k.profile_id is not null and p.profile_id is null
