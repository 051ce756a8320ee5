{%- set funnels = funnel_list() -%}
{%- set deepest = namespace(steps=2) -%}
{%- for funnel in funnels -%}{%- if funnel['steps'] | length > deepest.steps -%}{%- set deepest.steps = funnel['steps'] | length -%}{%- endif -%}{%- endfor -%}
-- How many people began each funnel of the var funnels on each day, and how many of
-- them came to each step of it: one after the other, each later than the one
-- before, and all within the funnel's hours of the beginning. Somebody who begins
-- several times on a day counts once, by the time they came farthest.
--
-- Of each event the query finds the earliest next steps, from the last step to the
-- first: with `next_2`, say, every event knows when the third step from the end came
-- after it, and when the rest came after that.
with matched as (
    select
        profile_id,
        coalesce({{ micros('occurred_at') }}, 0) as moment,
        {{ local_date('occurred_at') }} as day
        {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %},
        coalesce({{ step['where'] }}, false) as is_{{ f }}_{{ loop.index }}
        {%- endfor %}{% endfor %}
    from {{ consented_events('analytics') }} as e
    where occurred_at < {{ as_of() }}
),

next_0 as (
    select * from matched
    where false
        {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %}
        or is_{{ f }}_{{ loop.index }}
        {%- endfor %}{% endfor %}
),
{% for level in range(1, deepest.steps) %}
next_{{ level }} {{ as_computed() }} (
    select
        profile_id,
        moment,
        day
        {%- for funnel in funnels %}{% set f = loop.index %}
        {%- set last = funnel['steps'] | length %}
        {%- set k = last - level + 1 %}
        {%- for i in range(1, last + 1) %},
        is_{{ f }}_{{ i }}
        {%- endfor %}
        {%- for i in range(2, last + 1) %}
        {%- if k >= 2 and i == k %},
        min(case when is_{{ f }}_{{ k }} then moment end) over later as at_{{ f }}_{{ i }}
        {%- elif k >= 2 and i > k %},
        min(case when is_{{ f }}_{{ k }} then at_{{ f }}_{{ i }} end) over later as at_{{ f }}_{{ i }}
        {%- elif i > k %},
        at_{{ f }}_{{ i }}
        {%- endif %}
        {%- endfor %}
        {%- endfor %}
    from next_{{ level - 1 }}
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),
{% endfor %}
people as (
    select
        profile_id,
        day
        {%- for funnel in funnels %}{% set f = loop.index %},
        max(case when is_{{ f }}_1 then 1 else 0 end) as came_{{ f }}_1
        {%- for i in range(2, (funnel['steps'] | length) + 1) %},
        max(case when is_{{ f }}_1 and at_{{ f }}_{{ i }} - moment <= {{ funnel['within_hours'] }} * 3600000000 then 1 else 0 end) as came_{{ f }}_{{ i }}
        {%- endfor %}
        {%- endfor %}
    from next_{{ deepest.steps - 1 }}
    group by profile_id, day
),

totals as (
    select
        day
        {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %},
        sum(came_{{ f }}_{{ loop.index }}) as came_{{ f }}_{{ loop.index }}
        {%- endfor %}{% endfor %}
    from people
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
