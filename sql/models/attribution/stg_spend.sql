-- What was spent on advertising, as it was written down. If yours is in a table of
-- the warehouse, select these columns from there.
select
    cast(day as date) as day,
    lower(trim(channel)) as channel,
    nullif(trim(campaign), '') as campaign,
    coalesce(nullif(upper(trim(currency)), ''), '{{ var('currency') }}') as currency,
    cast(spend as {{ exact() }}) as spend
from {{ ref('channel_spend') }}
