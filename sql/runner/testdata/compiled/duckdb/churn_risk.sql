-- People who bought more than once, and are later than their habit by so much that
-- they may not come back.
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
    from (select distinct profile_id from sluis_models.score_churn where risk_band = 'high' and orders > 1) as scored
    join people as met on met.profile_id = scored.profile_id
),

matched as (
    select
        people.profile_id,
        greatest(people.met_at, condition_1.met_at) as entered_at
    from people
    join condition_1 on condition_1.profile_id = people.profile_id
    where true
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
