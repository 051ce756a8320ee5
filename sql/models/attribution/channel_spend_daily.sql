-- What was spent on each channel and campaign on each day, also where it was
-- nothing: a chart over days and channels has no holes. Currencies are kept apart.
with channels as (
    select channel, campaign, currency from {{ ref('stg_spend') }}
    union distinct
    select channel, cast(null as string) as campaign, '{{ var('currency') }}' as currency from {{ ref('sessions') }}
),

borders as (
    select min(day) as first_day, max(day) as last_day
    from (
        select day from {{ ref('stg_spend') }}
        union all
        select start_date as day from {{ ref('sessions') }}
    ) as seen
),

days as (
    {{ days_between('(select first_day from borders)', '(select last_day from borders)') }}
)

select d.day, c.channel, c.campaign, c.currency, cast(coalesce(s.spend, 0) as {{ exact() }}) as spend
from days as d
cross join channels as c
left join {{ ref('stg_spend') }} as s
    on s.day = d.day and s.channel = c.channel and s.currency = c.currency and coalesce(s.campaign, '') = coalesce(c.campaign, '')
