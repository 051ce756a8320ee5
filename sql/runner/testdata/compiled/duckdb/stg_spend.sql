-- What was spent on advertising by day, channel and campaign, of what was written
-- down. If yours is in a table of the warehouse, read that in `written`.
with written as (
    select
        cast(day as date) as day,
        lower(trim(channel)) as channel,
        nullif(trim(campaign), '') as campaign,
        coalesce(nullif(upper(trim(currency)), ''), 'EUR') as currency,
        cast(spend as decimal(38, 9)) as spend
    from sluis_models.channel_spend
)

select day, channel, campaign, currency, sum(spend) as spend
from written
group by day, channel, campaign, currency
