-- People who spent a hundred within a year, or came back to buy again, and have not lapsed.
with evidence as not materialized (
    select e.*, now() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'marketing' and c.allowed
    where coalesce(list_contains(e.purposes, 'marketing'), false)
) as e
    where e.occurred_at < now()
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),


exception_1 as (
    select profile_id, entered_at as met_at
    from sluis_models.lapsed_customers
),

choices as (
    select profile_id, min(met_at) as met_at
    from (
        (
    select profile_id, coalesce(met_at, now()) as met_at
    from (
    select
        told.profile_id,
        told.revenue,
        told.met_at
    from (
        select
            profile_id,
            coalesce(sum(case when (event = 'Order Completed') and occurred_at >= (as_of + to_hours(-24 * 365)) then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as revenue,
            min(case when (true) then occurred_at end) as met_at
        from evidence
        where occurred_at < as_of
        group by profile_id
    ) as told
    ) as traits
    where (revenue >= 100)
        )
        union all (
    select profile_id, occurred_at as met_at
    from evidence
    where (event = 'Order Completed')
    qualify row_number() over (partition by profile_id order by occurred_at, event_id) = 2
        )
    ) as fulfilled
    group by profile_id
),

matched as (
    select
        people.profile_id,
        greatest(people.met_at, coalesce(choices.met_at, people.met_at)) as entered_at
    from people
    left join exception_1 on exception_1.profile_id = people.profile_id
    join choices on choices.profile_id = people.profile_id
    where true
        and exception_1.profile_id is null
),

members as (
    select matched.profile_id, matched.entered_at
    from matched
    join sluis_models.consent_profile as consent
        on consent.profile_id = matched.profile_id and consent.purpose = 'marketing' and consent.allowed
)

select profile_id, entered_at
from members
where (select count(*) from members) >= 1
