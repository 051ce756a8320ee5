-- The visits that lead to a conversion, and those that lead to none, in their
-- order: a row for each visit, since a path in a text cannot be told from another
-- whose channels have its separator in their names. A journey without a conversion
-- is lost once none can come.
select
    journey_id,
    kind,
    profile_id,
    conversion_id,
    converted_at,
    case
        when conversion_id is not null then 'converted'
        when last_started_at < timestamp_add(current_timestamp(), interval -24 * 30 hour) then 'lost'
        else 'open'
    end as outcome,
    place,
    visits,
    session_id,
    started_at,
    channel,
    campaign
from sluis_models.int_attribution_journeys
