-- People whose first purchase was within the last 30 days.
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


condition_1 as (
    select profile_id, coalesce(met_at, now()) as met_at
    from (
    select
        told.profile_id,
        told.first_order_at,
        told.met_at
    from (
        select
            profile_id,
            min(case when (event = 'Order Completed') then occurred_at end) as first_order_at,
            min(case when (true) then occurred_at end) as met_at
        from evidence
        where occurred_at < as_of
        group by profile_id
    ) as told
    ) as traits
    where (first_order_at >= (now() + to_hours(-24 * 30)))
),

matched as (
    select
        condition_1.profile_id,
        greatest(condition_1.met_at) as entered_at
    from condition_1
    where true
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
