{%- set metrics = metric_list() -%}
-- Every metric of the var metrics in dbt_project.yml, by day. A day on which nothing
-- happened is 0, or nothing if the metric is an average or a share.
with measured as (
    {%- for metric in metrics %}
    {% if not loop.first %}union all {% endif %}select '{{ metric['name'] }}' as metric, {{ metric['day'] }} as day, cast({{ metric['measure'] }} as {{ exact() }}) as value from {{ ref(metric['from']) }} where {{ metric.get('where', 'true') }} group by {{ metric['day'] }}
    {%- endfor %}
),

registered as (
    {%- for metric in metrics %}
    {% if not loop.first %}union all {% endif %}select '{{ metric['name'] }}' as metric, {% if metric.get('average') %}cast(null as {{ exact() }}){% else %}cast(0 as {{ exact() }}){% endif %} as nothing
    {%- endfor %}
),

days as (
    {{ days_between('(select min(day) from measured)', '(select max(day) from measured)') }}
)

select r.metric, d.day, coalesce(m.value, r.nothing) as value
from days as d
cross join registered as r
left join measured as m on m.metric = r.metric and m.day = d.day
