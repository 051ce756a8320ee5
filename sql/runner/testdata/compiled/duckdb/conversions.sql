-- What people did that is worth attributing: the events of the var conversions,
-- collected for analytics. An order that two sources report, such as the browser
-- and the server, counts once, as it happened first. What was paid back, by the
-- events of the var refunds, is no longer part of its value.
with counted as (
    select
        event_id as conversion_id,
        profile_id,
        event as kind,
        occurred_at as converted_at,
        cast(timezone('UTC', occurred_at) as date) as conversion_date,
        case when json_type(properties, '$.order_id') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.order_id') end as order_id,
        coalesce(try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)), try_cast(case when json_type(properties, '$.value') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.value') end as decimal(38, 9)), 0) as gross_value,
        coalesce(upper(case when json_type(properties, '$.currency') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.currency') end), 'EUR') as currency
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
),

refunds as (
    select
        case when json_type(properties, '$.order_id') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.order_id') end as order_id,
        upper(case when json_type(properties, '$.currency') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.currency') end) as currency,
        -- Some write what they paid back as a negative number.
        abs(coalesce(try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)), try_cast(case when json_type(properties, '$.value') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.value') end as decimal(38, 9)))) as amount
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce(list_contains(e.purposes, 'analytics'), false)
) as e
    where event in ('Order Refunded') and occurred_at < now()
    qualify row_number() over (
        partition by coalesce(case when json_type(properties, '$.refund_id') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.refund_id') end, event_id)
        order by occurred_at, event_id, profile_id
    ) = 1
),

-- One that names no amount is for the whole order. One in another currency
-- cannot be subtracted.
refunded as (
    select c.conversion_id, sum(r.amount) as amount, max(case when r.amount is null then 1 else 0 end) as whole
    from counted as c
    join refunds as r on r.order_id = c.order_id
    where coalesce(r.currency, c.currency) = c.currency
    group by c.conversion_id
),

settled as (
    select
        c.*,
        r.conversion_id is not null as has_refund,
        cast(case
            when r.conversion_id is null then c.gross_value
            when r.whole = 1 or r.amount >= c.gross_value then 0
            else c.gross_value - r.amount
        end as decimal(38, 9)) as value
    from counted as c
    left join refunded as r on r.conversion_id = c.conversion_id
)

select
    conversion_id,
    profile_id,
    kind,
    converted_at,
    conversion_date,
    order_id,
    cast(gross_value as decimal(38, 9)) as gross_value,
    value,
    currency,
    has_refund and value = 0 as is_refunded
from settled
