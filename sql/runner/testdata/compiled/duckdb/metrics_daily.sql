-- Every metric of the var metrics in dbt_project.yml, by day. A day on which nothing
-- happened is 0, or nothing if the metric is an average or a share.
with measured as (
    select 'orders' as metric, conversion_date as day, cast(count(*) as decimal(38, 9)) as value from sluis_models.conversions where kind = 'Order Completed' group by conversion_date
    union all select 'revenue' as metric, conversion_date as day, cast(sum(value) as decimal(38, 9)) as value from sluis_models.conversions where kind = 'Order Completed' group by conversion_date
    union all select 'visitors' as metric, start_date as day, cast(count(distinct node_key) as decimal(38, 9)) as value from sluis_models.sessions where true group by start_date
    union all select 'engaged_visits' as metric, start_date as day, cast(count(*) as decimal(38, 9)) as value from sluis_models.sessions where page_views >= 2 group by start_date
    union all select 'pages_per_visit' as metric, start_date as day, cast(avg(page_views) as decimal(38, 9)) as value from sluis_models.sessions where true group by start_date
),

registered as (
    select 'orders' as metric, cast(0 as decimal(38, 9)) as nothing
    union all select 'revenue' as metric, cast(0 as decimal(38, 9)) as nothing
    union all select 'visitors' as metric, cast(0 as decimal(38, 9)) as nothing
    union all select 'engaged_visits' as metric, cast(0 as decimal(38, 9)) as nothing
    union all select 'pages_per_visit' as metric, cast(null as decimal(38, 9)) as nothing
),

days as (
    select cast(day as date) as day from generate_series((select min(day) from measured), (select max(day) from measured), interval 1 day) as series(day)
)

select r.metric, d.day, coalesce(m.value, r.nothing) as value
from days as d
cross join registered as r
left join measured as m on m.metric = r.metric and m.day = d.day
