-- What each channel brought in each month, by each attribution model, and what it
-- cost. What it brought adds up to the same for every model. Spend is there for
-- each model and kind, to be held against it, and must not be added up over them.
with by_visit as (
    select c.conversion_date as day, a.model, c.kind, a.channel, c.currency, sum(a.credit) as conversions, sum(a.value) as value
    from {{ ref('attribution_credits') }} as a
    join {{ ref('conversions') }} as c on c.conversion_id = a.conversion_id
    group by c.conversion_date, a.model, c.kind, a.channel, c.currency
),

-- Of the other models, shares of what visits brought at all.
shares as (
    select 'markov' as model, kind, channel, share from {{ ref('attribution_markov') }}
    union all
    select 'rate_shapley' as model, kind, channel, share from {{ ref('attribution_shapley') }}
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
        cast(a.value * s.share as {{ exact() }}) as part,
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
        cast(conversions as {{ exact() }}) as conversions,
        -- The channel with the most takes what rounding leaves.
        cast(part + case when place = channels then value - sum(part) over (partition by day, model, kind, currency) else 0 end as {{ exact() }}) as value
    from shared

    union all

    select b.day, m.model, b.kind, b.channel, b.currency, b.conversions, b.value
    from by_visit as b
    cross join (select 'markov' as model union all select 'rate_shapley' as model) as m
    where b.model = 'last' and b.channel = 'unattributed'
),

{{ report(['channel']) }}
