-- What each campaign brought in each month, and what it cost: as
-- attribution_report, for the models that look at one journey at a time.
with brought as (
    select c.conversion_date as day, a.model, c.kind, a.channel, a.campaign, c.currency, sum(a.credit) as conversions, sum(a.value) as value
    from sluis_models.attribution_credits as a
    join sluis_models.conversions as c on c.conversion_id = a.conversion_id
    group by c.conversion_date, a.model, c.kind, a.channel, a.campaign, c.currency
),

costs as (
    select cast(date_trunc(day, month) as date) as month, channel, campaign, currency, sum(spend) as spend
    from sluis_models.channel_spend_daily
    group by cast(date_trunc(day, month) as date), channel, campaign, currency
),

both_sides as (
    select cast(date_trunc(day, month) as date) as month, model, kind, channel, campaign, currency, conversions, value, cast(0 as numeric) as spend
    from brought

    union all

    select c.month, m.model, m.kind, c.channel, c.campaign, c.currency, cast(0 as numeric) as conversions, cast(0 as numeric) as value, c.spend
    from costs as c
    cross join (
        select 'first' as model, 'Order Completed' as kind
        union all select 'last' as model, 'Order Completed' as kind
        union all select 'last_non_direct' as model, 'Order Completed' as kind
        union all select 'linear' as model, 'Order Completed' as kind
        union all select 'position' as model, 'Order Completed' as kind
        union all select 'time_decay' as model, 'Order Completed' as kind
        union all select 'shapley' as model, 'Order Completed' as kind
    ) as m
),

summed as (
    select month, model, kind, channel, campaign, currency, sum(conversions) as conversions, sum(value) as value, sum(spend) as spend
    from both_sides
    group by month, model, kind, channel, campaign, currency
)

select
    month,
    model,
    kind,
    channel, campaign,
    currency,
    conversions,
    value,
    spend,
    cast(cast(value as float64) / nullif(cast(spend as float64), 0) as numeric) as roas,
    cast(cast(spend as float64) / nullif(cast(conversions as float64), 0) as numeric) as cost_per_conversion
from summed
where conversions <> 0 or value <> 0 or spend <> 0
