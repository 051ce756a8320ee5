-- What was spent on each channel and campaign on each day, also where it was
-- nothing: a chart over days and channels has no holes. Currencies are kept apart.
with channels as (
    select channel, campaign, currency from sluis_models.stg_spend
    union distinct
    select channel, cast(null as string) as campaign, 'EUR' as currency from sluis_models.sessions
),

borders as (
    select min(day) as first_day, max(day) as last_day
    from (
        select day from sluis_models.stg_spend
        union all
        select start_date as day from sluis_models.sessions
    ) as seen
),

days as (
    select day from unnest(generate_date_array((select first_day from borders), (select last_day from borders))) as day
)

select d.day, c.channel, c.campaign, c.currency, cast(coalesce(s.spend, 0) as numeric) as spend
from days as d
cross join channels as c
left join sluis_models.stg_spend as s
    on s.day = d.day and s.channel = c.channel and s.currency = c.currency and coalesce(s.campaign, '') = coalesce(c.campaign, '')
