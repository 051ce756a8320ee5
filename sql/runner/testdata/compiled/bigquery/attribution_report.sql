-- What each channel brought in each month, by each attribution model, and what it
-- cost. What it brought adds up to the same for every model. Spend is there for
-- each model and kind, to be held against it, and must not be added up over them.
with by_visit as (
    select c.conversion_date as day, a.model, c.kind, a.channel, c.currency, sum(a.credit) as conversions, sum(a.value) as value
    from sluis_models.attribution_credits as a
    join sluis_models.conversions as c on c.conversion_id = a.conversion_id
    group by c.conversion_date, a.model, c.kind, a.channel, c.currency
),

-- Of the other models, shares of what visits brought at all.
shares as (
    select 'markov' as model, kind, channel, share from sluis_models.attribution_markov
    union all
    select 'rate_shapley' as model, kind, channel, share from sluis_models.attribution_shapley
),

attributed as (
    select day, kind, currency, sum(conversions) as conversions, sum(value) as value
    from by_visit
    where model = 'last' and channel <> 'unattributed'
    group by day, kind, currency
),

shared as (
    select
        a.day,
        s.model,
        a.kind,
        s.channel,
        a.currency,
        a.conversions * s.share as conversions,
        a.value,
        cast(a.value * s.share as numeric) as part,
        row_number() over (partition by a.day, s.model, a.kind, a.currency order by s.share nulls last, s.channel) as place,
        count(*) over (partition by a.day, s.model, a.kind, a.currency) as channels
    from attributed as a
    join shares as s on s.kind = a.kind
),

brought as (
    select day, model, kind, channel, currency, conversions, value from by_visit

    union all

    select
        day,
        model,
        kind,
        channel,
        currency,
        cast(conversions as numeric) as conversions,
        -- The channel with the most takes what rounding leaves.
        cast(part + case when place = channels then value - sum(part) over (partition by day, model, kind, currency) else 0 end as numeric) as value
    from shared

    union all

    select b.day, m.model, b.kind, b.channel, b.currency, b.conversions, b.value
    from by_visit as b
    cross join (select 'markov' as model union all select 'rate_shapley' as model) as m
    where b.model = 'last' and b.channel = 'unattributed'
),

costs as (
    select cast(date_trunc(day, month) as date) as month, channel, currency, sum(spend) as spend
    from sluis_models.channel_spend_daily
    group by cast(date_trunc(day, month) as date), channel, currency
),

both_sides as (
    select cast(date_trunc(day, month) as date) as month, model, kind, channel, currency, conversions, value, cast(0 as numeric) as spend
    from brought

    union all

    select c.month, m.model, m.kind, c.channel, c.currency, cast(0 as numeric) as conversions, cast(0 as numeric) as value, c.spend
    from costs as c
    cross join (
        select 'first' as model, 'Order Completed' as kind
        union all select 'last' as model, 'Order Completed' as kind
        union all select 'last_non_direct' as model, 'Order Completed' as kind
        union all select 'linear' as model, 'Order Completed' as kind
        union all select 'position' as model, 'Order Completed' as kind
        union all select 'time_decay' as model, 'Order Completed' as kind
        union all select 'shapley' as model, 'Order Completed' as kind
        union all select 'markov' as model, 'Order Completed' as kind
        union all select 'rate_shapley' as model, 'Order Completed' as kind
    ) as m
),

summed as (
    select month, model, kind, channel, currency, sum(conversions) as conversions, sum(value) as value, sum(spend) as spend
    from both_sides
    group by month, model, kind, channel, currency
)

select
    month,
    model,
    kind,
    channel,
    currency,
    conversions,
    value,
    spend,
    cast(cast(value as float64) / nullif(cast(spend as float64), 0) as numeric) as roas,
    cast(cast(spend as float64) / nullif(cast(conversions as float64), 0) as numeric) as cost_per_conversion
from summed
where conversions <> 0 or value <> 0 or spend <> 0
