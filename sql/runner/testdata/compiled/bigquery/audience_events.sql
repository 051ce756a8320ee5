-- Who entered which audience and who left it, and why, as the runs of the models
-- found it: nothing else remembers that, so it is never built anew. Of somebody who
-- is no more, having been erased or joined with another, it forgets who it was.
with members as (
    select 'pricing_and_chat' as audience, profile_id from sluis_models.pricing_and_chat
    union all select 'asked_about_prices' as audience, profile_id from sluis_models.asked_about_prices
    union all select 'good_customers' as audience, profile_id from sluis_models.good_customers
    union all select 'lapsed_customers' as audience, profile_id from sluis_models.lapsed_customers
    union all select 'colleagues_of_customers' as audience, profile_id from sluis_models.colleagues_of_customers
),

purposes as (
    select 'pricing_and_chat' as audience, 'marketing' as purpose
    union all select 'asked_about_prices' as audience, 'marketing' as purpose
    union all select 'good_customers' as audience, 'marketing' as purpose
    union all select 'lapsed_customers' as audience, 'marketing' as purpose
    union all select 'colleagues_of_customers' as audience, 'marketing' as purpose
),

known as (select
        cast(null as string) as audience_event_id, cast(null as int64) as run, audience, profile_id,
        cast(null as string) as action, cast(null as string) as reason, current_timestamp() as noticed_at
    from members
    where false
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
    left join sluis_models.profiles as p on p.profile_id = l.profile_id
    left join sluis_models.consent_profile as c on c.profile_id = l.profile_id and c.purpose = u.purpose
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
    current_timestamp() as noticed_at
from numbered as n
left join sluis_models.profiles as p on p.profile_id = n.profile_id

union all

select k.audience_event_id, k.run, k.audience, cast(null as string) as profile_id, k.action, k.reason, k.noticed_at
from known as k
left join sluis_models.profiles as p on p.profile_id = k.profile_id
where k.profile_id is not null and p.profile_id is null
