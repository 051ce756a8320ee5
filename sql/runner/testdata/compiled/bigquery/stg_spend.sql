-- What was spent on advertising, as it was written down. If yours is in a table of
-- the warehouse, select these columns from there.
select
    cast(day as date) as day,
    lower(trim(channel)) as channel,
    nullif(trim(campaign), '') as campaign,
    coalesce(nullif(upper(trim(currency)), ''), 'EUR') as currency,
    cast(spend as numeric) as spend
from sluis_models.channel_spend
