-- The one number that tells whether people get what they come for, by day and over
-- the seven days that end with it, beside the metrics that move it.
with pivoted as (
    select
        day,
        sum(case when metric = 'orders' then value end) as value,
        sum(case when metric = 'visitors' then value end) as visitors,
        sum(case when metric = 'engaged_visits' then value end) as engaged_visits,
        sum(case when metric = 'pages_per_visit' then value end) as pages_per_visit
    from sluis_models.metrics_daily
    group by day
)

select
    day,
    'orders' as metric,
    value,
    sum(value) over (order by day rows between 6 preceding and current row) as value_7d,
    visitors,
    engaged_visits,
    pages_per_visit
from pivoted
