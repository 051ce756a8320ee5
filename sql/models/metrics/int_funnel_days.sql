{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='profile_id',
    post_hook="{{ remove_husks('fingerprint') }}"
) }}
{%- set funnels = funnel_list() -%}
{%- set deepest = namespace(steps=2) -%}
{%- for funnel in funnels -%}{%- if funnel['steps'] | length > deepest.steps -%}{%- set deepest.steps = funnel['steps'] | length -%}{%- endif -%}{%- endfor -%}
{#- Other funnels make all anew. -#}
{%- set all = namespace(text=var('time_zone')) -%}
{%- for funnel in funnels -%}
{%- set all.text = all.text ~ '; ' ~ funnel['within_hours'] -%}
{%- for step in funnel['steps'] -%}{%- set all.text = all.text ~ '; ' ~ step['where'] -%}{%- endfor -%}
{%- endfor -%}
{%- set definition = local_md5(all.text) -%}
-- To which steps of the funnels of the var funnels each person came, by the day on
-- which they began: one after the other, each later than the one before, and all
-- within the funnel's hours of the beginning. A run makes those of people anew of
-- whom something changed. Somebody who came to no step has a row without a day.
--
-- Of each event the query finds the earliest next steps, from the last step to the
-- first: with `next_2`, say, every event knows when the third step from the end came
-- after it, and when the rest came after that.
with {{ changed_profiles("definition <> '" ~ definition ~ "'") }}

matched as (
    select
        profile_id,
        coalesce({{ micros('occurred_at') }}, 0) as moment,
        {{ local_date('occurred_at') }} as day
        {%- for funnel in funnels %}{% set f = loop.index %}{% for step in funnel['steps'] %},
        coalesce({{ step['where'] }}, false) as is_{{ f }}_{{ loop.index }}
        {%- endfor %}{% endfor %}
    from {{ wanted_events() }} as e
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
farthest as (
    select
        profile_id,
        day,
        concat(
            {%- for funnel in funnels %}{% set f = loop.index %}
            {%- if not loop.first %},{% endif %}
            coalesce(max(case when is_{{ f }}_1 then '1' else '0' end), '0')
            {%- for i in range(2, (funnel['steps'] | length) + 1) %},
            coalesce(max(case when is_{{ f }}_1 and at_{{ f }}_{{ i }} - moment <= {{ funnel['within_hours'] }} * 3600000000 then '1' else '0' end), '0')
            {%- endfor %}
            {%- endfor %}
        ) as came
    from next_{{ deepest.steps - 1 }}
    group by profile_id, day
)

select
    c.profile_id,
    f.day,
    f.came,
    cast(c.n_events as int64) as n_events,
    c.fingerprint,
    '{{ definition }}' as definition
from {% if is_incremental() %}changed{% else %}usable{% endif %} as c
left join farthest as f on f.profile_id = c.profile_id
