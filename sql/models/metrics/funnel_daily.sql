{%- set funnels = funnel_list() -%}
{#- A step's place in `came`. -#}
{%- set place = namespace(of=0) -%}
-- How many people began each funnel of the var funnels on each day, and how many of
-- them came to each step of it. Somebody who begins several times on a day counts
-- once, by the time they came farthest.
with totals as (
    select
        day
        {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %}
        {%- set place.of = place.of + 1 %},
        sum(case when substr(came, {{ place.of }}, 1) = '1' then 1 else 0 end) as came_{{ f }}_{{ loop.index }}
        {%- endfor %}{% endfor %}
    from {{ ref('int_funnel_days') }}
    where day is not null
    group by day
),

steps as (
    {%- for funnel in funnels %}
    {%- set outer = loop %}
    {%- for step in funnel['steps'] %}
    {% if not (outer.first and loop.first) %}union all {% endif %}select '{{ funnel['name'] }}' as funnel, {{ loop.index }} as step, '{{ step['name'] }}' as step_name, {{ outer.index }} as f, {{ local_date(add_hours(as_of(), '-' ~ funnel['within_hours'])) }} as final_before
    {%- endfor %}
    {%- endfor %}
),

counted as (
    select
        s.funnel,
        t.day,
        s.step,
        s.step_name,
        case s.f{% for funnel in funnels %} when {{ loop.index }} then t.came_{{ loop.index }}_1{% endfor %} end as entered,
        case
            {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %}
            when s.f = {{ f }} and s.step = {{ loop.index }} then t.came_{{ f }}_{{ loop.index }}
            {%- endfor %}{% endfor %}
        end as people,
        t.day < s.final_before as is_final
    from totals as t
    cross join steps as s
)

select
    funnel,
    day,
    cast(step as int64) as step,
    step_name,
    cast(entered as int64) as entered,
    cast(people as int64) as people,
    {{ ratio('people', 'entered') }} as share,
    is_final
from counted
where entered > 0
