{%- set windows = [1, 7, 30] -%}
-- How many people used each feature of the var features on each whole day, and in
-- the 7 and 30 days that end with it. The share of the month's people who come on a
-- day tells whether it became a habit.
--
-- Somebody counts from a day on for so many days, or until the day they come again,
-- from which on that counts: so a running sum of who begins and who ends counts
-- each person once, without looking at each day's month anew.
with used as (
    select distinct f.feature, e.profile_id, {{ day_number(local_date('e.occurred_at')) }} as n
    from {{ consented_events('analytics') }} as e
    cross join (
        {%- for feature in var('features') %}
        {% if not loop.first %}union all {% endif %}select '{{ feature['name'] }}' as feature
        {%- endfor %}
    ) as f
    where e.occurred_at < {{ as_of() }}
        and case f.feature{% for feature in var('features') %} when '{{ feature['name'] }}' then {{ feature['where'] }}{% endfor %} else false end
),

returning_on as (
    select feature, n, lead(n) over (partition by feature, profile_id order by n nulls last) as next_n
    from used
),

changes as (
    select feature, n{% for days in windows %}, 1 as d_{{ days }}{% endfor %} from returning_on
    {%- for days in windows %}
    union all
    select feature, case when next_n < n + {{ days }} then next_n else n + {{ days }} end as n{% for other in windows %}, {% if other == days %}-1{% else %}0{% endif %} as d_{{ other }}{% endfor %} from returning_on
    {%- endfor %}
),

changed as (
    select feature, n{% for days in windows %}, sum(d_{{ days }}) as d_{{ days }}{% endfor %}
    from changes
    group by feature, n
),

borders as (
    select {{ local_date('min(occurred_at)') }} as first_day from {{ consented_events('analytics') }} as e
    where occurred_at < {{ as_of() }}
),

days as (
    {{ days_between('(select first_day from borders)', local_date(add_hours(as_of(), -24))) }}
),

summed as (
    select
        d.day,
        f.feature
        {%- for days in windows %},
        sum(coalesce(c.d_{{ days }}, 0)) over (partition by f.feature order by d.day nulls last rows between unbounded preceding and current row) as people_{{ days }}
        {%- endfor %}
    from days as d
    cross join (
        {%- for feature in var('features') %}
        {% if not loop.first %}union all {% endif %}select '{{ feature['name'] }}' as feature
        {%- endfor %}
    ) as f
    left join changed as c on c.feature = f.feature and c.n = {{ day_number('d.day') }}
)

select
    feature,
    day,
    cast(people_1 as int64) as dau,
    cast(people_7 as int64) as wau,
    cast(people_30 as int64) as mau,
    {{ ratio('people_1', 'people_30') }} as stickiness
from summed
