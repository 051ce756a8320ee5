-- What was spent on advertising by day, channel and campaign, of what was written
-- down. If yours is in a table of the warehouse, read that in `written`.
with written as (
    select
        cast(day as date) as day,
        lower(trim(channel)) as channel,
        nullif(trim(campaign), '') as campaign,
        coalesce(nullif(upper(trim(currency)), ''), '{{ var('currency') }}') as currency,
        cast(spend as {{ exact() }}) as spend
    from {{ ref('channel_spend') }}
)

select day, channel, campaign, currency, sum(spend) as spend
from written
group by day, channel, campaign, currency
