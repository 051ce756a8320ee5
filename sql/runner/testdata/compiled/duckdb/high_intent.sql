-- People of whom score_intent says that they are about to buy, and who did not
-- within the last month.
with evidence as not materialized (
    select e.*, now() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'personalization' and c.allowed
    where coalesce(list_contains(e.purposes, 'personalization'), false)
) as e
    where e.occurred_at < now()
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),


condition_1 as (
    select scored.profile_id, met.met_at
    from (select distinct profile_id from sluis_models.score_intent where topic = 'purchase' and score >= 5) as scored
    join people as met on met.profile_id = scored.profile_id
),

exception_1 as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    where (event = 'Order Completed') and occurred_at >= (as_of + to_hours(-24 * 30))
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
        on consent.profile_id = matched.profile_id and consent.purpose = 'personalization' and consent.allowed
)

select profile_id, entered_at
from members
where (select count(*) from members) >= 1
