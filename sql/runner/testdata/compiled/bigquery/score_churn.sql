-- Of everybody who bought something: how often, when last, and whether they are late
-- by their own habit. With the four parameters of the model BG/NBD (Fader, Hardie
-- and Lee, 2005) also how likely they are still customers, and how many orders to
-- expect of them. Orders of one day count as one purchase.
with orders as (
    select
        profile_id,
        occurred_at,
        date(occurred_at, 'UTC') as order_day,
        coalesce(safe_cast(json_value(properties, '$.total') as numeric), safe_cast(json_value(properties, '$.value') as numeric), 0) as value
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'personalization' and c.allowed
    where coalesce('personalization' in unnest(e.purposes), false)
) as e
    where event in ('Order Completed') and occurred_at < current_timestamp()
    -- An order that two sources report, such as the browser and the server, is one.
    qualify row_number() over (
        partition by profile_id, coalesce(json_value(properties, '$.order_id'), event_id)
        order by occurred_at, event_id
    ) = 1
),

days as (
    select
        profile_id,
        order_day,
        min(occurred_at) as ordered_at,
        count(*) as orders,
        sum(value) as revenue
    from orders
    group by profile_id, order_day
),

gaps as (
    select
        profile_id,
        unix_micros(ordered_at) - lag(unix_micros(ordered_at)) over (partition by profile_id order by order_day nulls last) as gap
    from days
),

ranked as (
    select
        profile_id,
        gap,
        row_number() over (partition by profile_id order by gap) as place,
        count(*) over (partition by profile_id) as n
    from gaps
    where gap is not null
),

-- The median: the gap in the middle, or the average of two.
typical as (
    select profile_id, avg(cast(gap as float64)) / 86400000000 as gap_days
    from ranked
    where 2 * place in (n, n + 1, n + 2)
    group by profile_id
),

customers as (
    select
        d.profile_id,
        sum(d.orders) as orders,
        count(*) - 1 as repeats,
        sum(d.revenue) as revenue,
        min(d.ordered_at) as first_order_at,
        max(d.ordered_at) as last_order_at,
        cast(max(unix_micros(d.ordered_at)) - min(unix_micros(d.ordered_at)) as float64) / 86400000000 as active_days,
        cast(unix_micros(current_timestamp()) - min(unix_micros(d.ordered_at)) as float64) / 86400000000 as age_days
    from days as d
    group by d.profile_id
),

cadence as (
    select
        c.*,
        c.age_days - c.active_days as gap_days,
        t.gap_days as typical_gap_days
    from customers as c
    left join typical as t on t.profile_id = c.profile_id
),

scored as (
    select *, cast(null as float64) as p_alive, cast(null as float64) as expected_orders
    from cadence
)

select
    profile_id,
    cast(orders as int64) as orders,
    cast(repeats + 1 as int64) as order_days,
    cast(revenue as numeric) as revenue,
    first_order_at,
    last_order_at,
    cast(round(gap_days, 3) as numeric) as gap_days,
    cast(round(typical_gap_days, 3) as numeric) as typical_gap_days,
    cast(round(p_alive, 6) as numeric) as p_alive,
    cast(round(expected_orders, 6) as numeric) as expected_orders,
    case
        when repeats = 0 then 'unknown'
        when coalesce(p_alive < 0.33, gap_days > 3 * typical_gap_days) then 'high'
        when coalesce(p_alive < 0.67, gap_days > 1.5 * typical_gap_days) then 'medium'
        else 'low'
    end as risk_band,
    current_timestamp() as as_of
from scored
