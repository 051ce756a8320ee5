-- How much somebody seems about to do something, by topic: what they did counts by
-- the weights of the var intent_signals, and half as much after each half-life.
with signals as (
    select
        profile_id,
        occurred_at,
        pow(0.5, cast(epoch_us(now()) - epoch_us(occurred_at) as double) / 604800000000) as fading
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'personalization' and c.allowed
    where coalesce(list_contains(e.purposes, 'personalization'), false)
) as e
    where occurred_at < now() and occurred_at >= (now() + to_hours(-24 * 20 * 7))
)
