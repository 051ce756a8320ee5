-- What people did that is worth attributing: the events of the var conversions,
-- collected for analytics. An order that two sources report, such as the browser
-- and the server, counts once, as it happened first.
select
    event_id as conversion_id,
    profile_id,
    event as kind,
    occurred_at as converted_at,
    date(occurred_at, 'UTC') as conversion_date,
    json_value(properties, '$.order_id') as order_id,
    coalesce(safe_cast(json_value(properties, '$.total') as numeric), safe_cast(json_value(properties, '$.value') as numeric), 0) as value,
    upper(json_value(properties, '$.currency')) as currency
from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce('analytics' in unnest(e.purposes), false)
) as e
where event in ('Order Completed') and occurred_at < current_timestamp()
qualify row_number() over (
    partition by event, coalesce(json_value(properties, '$.order_id'), event_id)
    order by occurred_at, event_id, profile_id
) = 1
