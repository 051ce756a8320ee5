-- Of the people who came first in a week, how many came again in each week after
-- it, up to now: a triangle, with the weeks in which nobody came in it. Weeks begin
-- on Mondays; what counts as coming is the var active_when.
with active as (
    select distinct profile_id, cast(date_trunc('week', day) as date) as week_start
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
    select cast(day as date) as day from generate_series((select min(week_start) from active), cast(timezone('UTC', now()) as date), interval 1 day) as series(day)
),

triangle as (
    select c.cohort_week, c.people as cohort_size, d.day as week_start
    from counted as c
    cross join days as d
    where c.week_start = c.cohort_week and d.day = cast(date_trunc('week', d.day) as date) and d.day >= c.cohort_week
)

select
    t.cohort_week,
    cast((date_diff('day', date '1970-01-01', t.week_start) - date_diff('day', date '1970-01-01', t.cohort_week)) / 7 as int64) as week,
    cast(t.cohort_size as int64) as cohort_size,
    cast(coalesce(c.people, 0) as int64) as people,
    cast(cast(coalesce(c.people, 0) as double) / nullif(cast(t.cohort_size as double), 0) as decimal(38, 9)) as share,
    date_diff('day', date '1970-01-01', t.week_start) + 7 <= date_diff('day', date '1970-01-01', cast(timezone('UTC', now()) as date)) as is_final
from triangle as t
left join counted as c on c.cohort_week = t.cohort_week and c.week_start = t.week_start
