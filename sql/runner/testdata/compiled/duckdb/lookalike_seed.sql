-- Whom others should be like: people who bought three times within a year and looked
-- at pages within the last month. For advertising, so that fewer than a hundred of
-- them publish nobody.
with evidence as not materialized (
    select e.*, now() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'advertising' and c.allowed
    where coalesce(list_contains(e.purposes, 'advertising'), false)
) as e
    where e.occurred_at < now()
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),


condition_1 as (
    select profile_id, occurred_at as met_at
    from evidence
    where (event = 'Order Completed') and occurred_at >= (as_of + to_hours(-24 * 365))
    qualify row_number() over (partition by profile_id order by occurred_at, event_id) = 3
),

condition_2 as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    where (type = 'page') and occurred_at >= (as_of + to_hours(-24 * 30))
    group by profile_id
),

matched as (
    select
        condition_1.profile_id,
        greatest(condition_1.met_at, condition_2.met_at) as entered_at
    from condition_1
    join condition_2 on condition_2.profile_id = condition_1.profile_id
    where true
),

members as (
    select matched.profile_id, matched.entered_at
    from matched
    join sluis_models.consent_profile as consent
        on consent.profile_id = matched.profile_id and consent.purpose = 'advertising' and consent.allowed
)

select profile_id, entered_at
from members
where (select count(*) from members) >= 100
