-- Who entered which audience and who left it, and why, as the runs of the models
-- found it: nothing else remembers that, so it is never built anew. Of somebody who
-- is no more, having been erased or joined with another, it forgets who it was.
-- depends_on: sluis_models.profile_events
with declared as (
    
    select 'asked_about_prices' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '140b31f6cb237756 marketing 1 1' as definition
    union all select 'colleagues_of_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '194bdd543e021c8c marketing 1 1' as definition
    union all select 'good_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '0c2274854fc3401e marketing 1 1' as definition
    union all select 'lapsed_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '8c273f9442d2ce5c marketing 1 1' as definition
    union all select 'pricing_and_chat' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, 'cfe3b424e59eed19 marketing 1 1' as definition
    union all select 'abandoned_carts' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, 'ffe17147df948a70 marketing 1 1' as definition
    union all select 'active_accounts' as audience, 'account' as entity, 'marketing' as purpose, 1 as min_size, 2 as min_members_consenting, '37e4935fc699830d marketing 1 2' as definition
    union all select 'churn_risk' as audience, 'profile' as entity, 'personalization' as purpose, 1 as min_size, 1 as min_members_consenting, '6628409cff0e7869 personalization 1 1' as definition
    union all select 'high_intent' as audience, 'profile' as entity, 'personalization' as purpose, 1 as min_size, 1 as min_members_consenting, 'acb29065dd558816 personalization 1 1' as definition
    union all select 'lookalike_seed' as audience, 'profile' as entity, 'advertising' as purpose, 100 as min_size, 1 as min_members_consenting, '40a92536a6c3ce71 advertising 100 1' as definition
    union all select 'new_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '1017dcbc5819efeb marketing 1 1' as definition
),

members as (
    select audience, profile_id, account_id, coalesce(profile_id, account_id) as member from sluis_models.audience_members
),

published as (
    select audience, count(*) as n from members group by audience
),

known as (select
        cast(null as string) as audience_event_id, cast(null as int64) as run, audience, profile_id, account_id,
        cast(null as string) as action, cast(null as string) as reason, cast(null as string) as definition,
        cast(null as string) as began_with, current_timestamp() as noticed_at
    from members
    where false
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
    select purpose, profile_id as member from sluis_models.consent_profile where allowed
    union all
    select b.purpose, b.account_id as member
    from (
        select c.purpose, e.group_id as account_id, count(distinct e.profile_id) as n_consenting
        from sluis_models.profile_events as e
        join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.allowed and coalesce(c.purpose in unnest(e.purposes), false)
        where e.group_id is not null
        group by c.purpose, e.group_id
    ) as b
    join (select distinct purpose, min_members_consenting from declared where entity = 'account') as d
        on d.purpose = b.purpose
    where b.n_consenting >= d.min_members_consenting
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
    left join sluis_models.profiles as p on p.profile_id = l.profile_id
    left join sluis_models.identity_aliases as h on h.alias_id = l.profile_id
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
    current_timestamp() as noticed_at
from numbered as n
left join declared as d on d.audience = n.audience
left join sluis_models.profiles as p on p.profile_id = n.profile_id

union all

select k.audience_event_id, k.run, k.audience, cast(null as string) as profile_id, k.account_id, k.action, k.reason, k.definition, k.began_with, k.noticed_at
from known as k
left join sluis_models.profiles as p on p.profile_id = k.profile_id
where k.profile_id is not null and p.profile_id is null
