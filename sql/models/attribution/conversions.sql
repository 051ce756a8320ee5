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
        {{ local_date('occurred_at') }} as conversion_date,
        {{ json_text('properties', '$.order_id') }} as order_id,
        coalesce({{ json_number('properties', '$.total') }}, {{ json_number('properties', '$.value') }}, 0) as gross_value,
        coalesce(upper({{ json_text('properties', '$.currency') }}), '{{ var('currency') }}') as currency
    from {{ consented_events('analytics') }} as e
    where event in ('{{ var('conversions') | join("', '") }}') and occurred_at < {{ as_of() }}
    qualify row_number() over (
        partition by event, coalesce({{ json_text('properties', '$.order_id') }}, event_id)
        order by occurred_at, event_id, profile_id
    ) = 1
),

refunds as (
    select
        {{ json_text('properties', '$.order_id') }} as order_id,
        upper({{ json_text('properties', '$.currency') }}) as currency,
        -- Some write what they paid back as a negative number.
        abs(coalesce({{ json_number('properties', '$.total') }}, {{ json_number('properties', '$.value') }})) as amount
    from {{ consented_events('analytics') }} as e
    where event in ('{{ var('refunds') | join("', '") }}') and occurred_at < {{ as_of() }}
    qualify row_number() over (
        partition by coalesce({{ json_text('properties', '$.refund_id') }}, event_id)
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
        end as {{ exact() }}) as value
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
    cast(gross_value as {{ exact() }}) as gross_value,
    value,
    currency,
    has_refund and value = 0 as is_refunded
from settled
