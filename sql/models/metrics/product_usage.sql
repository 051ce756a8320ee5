{%- set windows = [1, 7, 30] -%}
-- How many people used each feature of the var features on each whole day, and in
-- the 7 and 30 days that end with it. The share of the month's people who come on a
-- day tells whether it became a habit.
--
-- Somebody counts from a day on for so many days, or until the day they come again,
-- from which on that counts: so a running sum of who begins and who ends counts
-- each person once, without looking at each day's month anew.
with coming as (
    select profile_id, day, did from {{ consented_behaviour() }} as b where not is_later
),

used as (
    select distinct f.feature, c.profile_id, {{ day_number('c.day') }} as n
    from coming as c
    -- Of what int_behaviour_days asks, the first is not a feature.
    join (
        {%- for feature in var('features') %}
        {% if not loop.first %}union all {% endif %}select '{{ feature['name'] }}' as feature, {{ loop.index + 1 }} as place
        {%- endfor %}
    ) as f on substr(c.did, f.place, 1) = '1'
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

days as (
    {{ days_between('(select min(day) from coming)', local_date(add_hours(as_of(), -24))) }}
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
