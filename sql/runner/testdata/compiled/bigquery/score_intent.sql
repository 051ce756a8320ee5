-- How much somebody seems about to do something, by topic: what they did counts by
-- the weights of the var intent_signals, and half as much after each half-life.
with signals as (
    select
        profile_id,
        occurred_at,
        pow(0.5, cast(unix_micros(current_timestamp()) - unix_micros(occurred_at) as float64) / 604800000000) as fading
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'personalization' and c.allowed
    where coalesce('personalization' in unnest(e.purposes), false)
) as e
    where occurred_at < current_timestamp() and occurred_at >= timestamp_add(current_timestamp(), interval -24 * 20 * 7 hour)
)
