-- Of the people who came first in a week, how many came again in each week after
-- it, up to now: a triangle, with the weeks in which nobody came in it. Weeks begin
-- on Mondays; what counts as coming is the var active_when.
with active as (
    select distinct profile_id, {{ week_of('day') }} as week_start
    from {{ consented_behaviour() }} as b
    -- Of what int_behaviour_days asks, this is the first.
    where not is_later and substr(did, 1, 1) = '1'
),

members as (
    select profile_id, week_start, min(week_start) over (partition by profile_id) as cohort_week
    from active
),

counted as (
    select cohort_week, week_start, count(*) as people
    from members
    group by cohort_week, week_start
),

days as (
    {{ days_between('(select min(week_start) from active)', local_date(as_of())) }}
),

triangle as (
    select c.cohort_week, c.people as cohort_size, d.day as week_start
    from counted as c
    cross join days as d
    where c.week_start = c.cohort_week and d.day = {{ week_of('d.day') }} and d.day >= c.cohort_week
)

select
    t.cohort_week,
    cast(({{ day_number('t.week_start') }} - {{ day_number('t.cohort_week') }}) / 7 as int64) as week,
    cast(t.cohort_size as int64) as cohort_size,
    cast(coalesce(c.people, 0) as int64) as people,
    {{ ratio('coalesce(c.people, 0)', 't.cohort_size') }} as share,
    {{ day_number('t.week_start') }} + 7 <= {{ day_number(local_date(as_of())) }} as is_final
from triangle as t
left join counted as c on c.cohort_week = t.cohort_week and c.week_start = t.week_start
