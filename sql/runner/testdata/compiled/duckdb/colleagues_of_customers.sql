-- People whose colleague bought something, and who did not.
with evidence as (
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


condition_1 as (
    select belongs.profile_id, min(coalesce(account.met_at, belongs.since)) as met_at
    from (
        select group_id, profile_id, min(occurred_at) as since
        from evidence
        where group_id is not null
        group by group_id, profile_id
    ) as belongs
    join (
        select
            member.group_id,
            count(*) as n,
            count(fulfilling.profile_id) as n_fulfilling,
            min(fulfilling.met_at) as met_at
        from (select distinct group_id, profile_id from evidence where group_id is not null) as member
        left join (
    select profile_id, min(occurred_at) as met_at
    from evidence
    where (event = 'Order Completed')
    group by profile_id
        ) as fulfilling on fulfilling.profile_id = member.profile_id
        group by member.group_id
    ) as account on account.group_id = belongs.group_id
    where account.n_fulfilling > 0
    group by belongs.profile_id
),

exception_1 as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    where (event = 'Order Completed')
    group by profile_id
),

matched as (
    select
        people.profile_id,
        greatest(people.met_at, condition_1.met_at) as entered_at
    from people
    join condition_1 on condition_1.profile_id = people.profile_id
    left join exception_1 on exception_1.profile_id = people.profile_id
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
