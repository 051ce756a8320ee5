-- Of the people who came first in a week, how many came again in each week after
-- it, up to now: a triangle, with the weeks in which nobody came in it. Weeks begin
-- on Mondays; what counts as coming is the var active_when.
with active as (
    select distinct profile_id, date_sub(day, interval mod(date_diff(day, date '1970-01-05', day), 7) day) as week_start
    from (
    select o.profile_id, b.*
    from sluis_models.int_behaviour_days as b
    join sluis_models.identifier_owners as o on o.identifier_set = b.identifier_set
    join sluis_models.consent_profile as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
) as b
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
    select day from unnest(generate_date_array((select min(week_start) from active), date(current_timestamp(), 'UTC'))) as day
),

triangle as (
    select c.cohort_week, c.people as cohort_size, d.day as week_start
    from counted as c
    cross join days as d
    where c.week_start = c.cohort_week and d.day = date_sub(d.day, interval mod(date_diff(d.day, date '1970-01-05', day), 7) day) and d.day >= c.cohort_week
)

select
    t.cohort_week,
    cast((unix_date(t.week_start) - unix_date(t.cohort_week)) / 7 as int64) as week,
    cast(t.cohort_size as int64) as cohort_size,
    cast(coalesce(c.people, 0) as int64) as people,
    cast(cast(coalesce(c.people, 0) as float64) / nullif(cast(t.cohort_size as float64), 0) as numeric) as share,
    unix_date(t.week_start) + 7 <= unix_date(date(current_timestamp(), 'UTC')) as is_final
from triangle as t
left join counted as c on c.cohort_week = t.cohort_week and c.week_start = t.week_start
