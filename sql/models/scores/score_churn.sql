{#- Nothing is assumed about how customers come and go unless it was fitted: without
    the var bgnbd there is no probability, only the cadence. -#}
{{ config(meta={'purpose': var('scores_purpose')}) }}
-- Of everybody who bought something: how often, when last, and whether they are late
-- by their own habit. With the four parameters of the model BG/NBD (Fader, Hardie
-- and Lee, 2005) also how likely they are still customers, and how many orders to
-- expect of them. Orders of one day count as one purchase.
with orders as (
    select
        profile_id,
        occurred_at,
        {{ local_date('occurred_at') }} as order_day,
        coalesce({{ json_number('properties', '$.total') }}, {{ json_number('properties', '$.value') }}, 0) as value
    from {{ consented_events(var('scores_purpose')) }} as e
    where event in ('{{ var('purchases') | join("', '") }}') and occurred_at < {{ as_of() }}
    -- An order that two sources report, such as the browser and the server, is one.
    qualify row_number() over (
        partition by profile_id, coalesce({{ json_text('properties', '$.order_id') }}, event_id)
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
        {{ micros('ordered_at') }} - lag({{ micros('ordered_at') }}) over (partition by profile_id order by order_day nulls last) as gap
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
    select profile_id, avg(cast(gap as {{ dbt.type_float() }})) / 86400000000 as gap_days
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
        cast(max({{ micros('d.ordered_at') }}) - min({{ micros('d.ordered_at') }}) as {{ dbt.type_float() }}) / 86400000000 as active_days,
        cast({{ micros(as_of()) }} - min({{ micros('d.ordered_at') }}) as {{ dbt.type_float() }}) / 86400000000 as age_days
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
    {{ bgnbd('cadence', var('bgnbd'), var('expected_days')) | indent(4) }}
)

select
    profile_id,
    cast(orders as int64) as orders,
    cast(repeats + 1 as int64) as order_days,
    cast(revenue as {{ exact() }}) as revenue,
    first_order_at,
    last_order_at,
    cast(round(gap_days, 3) as {{ exact() }}) as gap_days,
    cast(round(typical_gap_days, 3) as {{ exact() }}) as typical_gap_days,
    cast(round(p_alive, 6) as {{ exact() }}) as p_alive,
    cast(round(expected_orders, 6) as {{ exact() }}) as expected_orders,
    case
        when repeats = 0 then 'unknown'
        when coalesce(p_alive < 0.33, gap_days > 3 * typical_gap_days) then 'high'
        when coalesce(p_alive < 0.67, gap_days > 1.5 * typical_gap_days) then 'medium'
        else 'low'
    end as risk_band,
    {{ as_of() }} as as_of
from scored
