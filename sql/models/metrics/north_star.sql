{#- The registry names it. -#}
{%- set found = namespace(star={}) -%}
{%- for metric in metric_list() -%}
{%- if metric.get('north_star') -%}{%- set found.star = metric -%}{%- endif -%}
{%- endfor -%}
-- The one number that tells whether people get what they come for, by day and over
-- the seven days that end with it, beside the metrics that move it.
with pivoted as (
    select
        day,
        sum(case when metric = '{{ found.star['name'] }}' then value end) as value
        {%- for input in found.star.get('inputs', []) %},
        sum(case when metric = '{{ input }}' then value end) as {{ input }}
        {%- endfor %}
    from {{ ref('metrics_daily') }}
    group by day
)

select
    day,
    '{{ found.star['name'] }}' as metric,
    value,
    sum(value) over (order by day rows between 6 preceding and current row) as value_7d
    {%- for input in found.star.get('inputs', []) %},
    {{ input }}
    {%- endfor %}
from pivoted
