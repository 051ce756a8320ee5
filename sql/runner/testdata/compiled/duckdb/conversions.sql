-- What people did that is worth attributing: the events of the var conversions,
-- collected for analytics. An order that two sources report, such as the browser
-- and the server, counts once, as it happened first.
select
    event_id as conversion_id,
    profile_id,
    event as kind,
    occurred_at as converted_at,
    cast(timezone('UTC', occurred_at) as date) as conversion_date,
    case when json_type(properties, '$.order_id') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.order_id') end as order_id,
    coalesce(try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)), try_cast(case when json_type(properties, '$.value') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.value') end as decimal(38, 9)), 0) as value,
    upper(case when json_type(properties, '$.currency') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.currency') end) as currency
from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce(list_contains(e.purposes, 'analytics'), false)
) as e
where event in ('Order Completed') and occurred_at < now()
qualify row_number() over (
    partition by event, coalesce(case when json_type(properties, '$.order_id') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.order_id') end, event_id)
    order by occurred_at, event_id, profile_id
) = 1
