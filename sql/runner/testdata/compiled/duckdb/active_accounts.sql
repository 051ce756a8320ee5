-- Accounts that have an admin, did something within the last two weeks, and bought
-- something before.
with evidence as (
    select e.*, e.group_id as account_id, now() as as_of
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

companies as (
    select account_id, min(occurred_at) as met_at, count(distinct profile_id) as n_consenting
    from evidence
    where account_id is not null
    group by account_id
),


condition_1 as (
    select belongs.account_id, min(coalesce(account.met_at, belongs.since)) as met_at
    from (
        select group_id, account_id, min(occurred_at) as since
        from evidence
        where group_id is not null
        group by group_id, account_id
    ) as belongs
    join (
        select
            member.group_id,
            count(*) as n,
            count(fulfilling.profile_id) as n_fulfilling,
            min(fulfilling.met_at) as met_at
        from (select distinct group_id, profile_id from evidence where group_id is not null) as member
        left join (
    select profile_id, coalesce(met_at, now()) as met_at
    from (
    select
        told.profile_id,
        told.role,
        told.met_at
    from (
        select
            profile_id,
            arg_max(case when (true) then case when json_type(traits, '$.role') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.role') end end, row(occurred_at, event_id)) filter (where case when (true) then case when json_type(traits, '$.role') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.role') end end is not null) as role,
            min(case when (true) then occurred_at end) as met_at
        from evidence
        where occurred_at < as_of
        group by profile_id
    ) as told
    ) as traits
    where (role = 'admin')
        ) as fulfilling on fulfilling.profile_id = member.profile_id
        group by member.group_id
    ) as account on account.group_id = belongs.group_id
    where account.n_fulfilling > 0
    group by belongs.account_id
),

condition_2 as (
    select account_id, min(occurred_at) as met_at
    from evidence
    where (true) and account_id is not null and occurred_at >= (as_of + to_hours(-24 * 14))
    group by account_id
),

condition_3 as (
    select account_id, min(occurred_at) as met_at
    from evidence
    where (event = 'Order Completed') and account_id is not null
    group by account_id
),

matched as (
    select
        companies.account_id,
        greatest(companies.met_at, condition_1.met_at, condition_2.met_at, condition_3.met_at) as entered_at
    from companies
    join condition_1 on condition_1.account_id = companies.account_id
    join condition_2 on condition_2.account_id = companies.account_id
    join condition_3 on condition_3.account_id = companies.account_id
    where true
),

members as (
    select matched.account_id, matched.entered_at
    from matched
    join companies on companies.account_id = matched.account_id
    where companies.n_consenting >= 2
)

select account_id, entered_at
from members
where (select count(*) from members) >= 1
