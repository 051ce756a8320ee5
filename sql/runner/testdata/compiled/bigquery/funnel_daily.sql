-- How many people began each funnel of the var funnels on each day, and how many of
-- them came to each step of it. Somebody who begins several times on a day counts
-- once, by the time they came farthest.
with totals as (
    select
        day,
        sum(case when substr(came, 1, 1) = '1' then 1 else 0 end) as came_1_1,
        sum(case when substr(came, 2, 1) = '1' then 1 else 0 end) as came_1_2,
        sum(case when substr(came, 3, 1) = '1' then 1 else 0 end) as came_1_3,
        sum(case when substr(came, 4, 1) = '1' then 1 else 0 end) as came_1_4
    from sluis_models.int_funnel_days
    where day is not null
    group by day
),

steps as (
    select 'purchase' as funnel, 1 as step, 'visit' as step_name, 1 as f, date(timestamp_add(current_timestamp(), interval -168 hour), 'UTC') as final_before
    union all select 'purchase' as funnel, 2 as step, 'product' as step_name, 1 as f, date(timestamp_add(current_timestamp(), interval -168 hour), 'UTC') as final_before
    union all select 'purchase' as funnel, 3 as step, 'checkout' as step_name, 1 as f, date(timestamp_add(current_timestamp(), interval -168 hour), 'UTC') as final_before
    union all select 'purchase' as funnel, 4 as step, 'order' as step_name, 1 as f, date(timestamp_add(current_timestamp(), interval -168 hour), 'UTC') as final_before
),

counted as (
    select
        s.funnel,
        t.day,
        s.step,
        s.step_name,
        case s.f when 1 then t.came_1_1 end as entered,
        case
            when s.f = 1 and s.step = 1 then t.came_1_1
            when s.f = 1 and s.step = 2 then t.came_1_2
            when s.f = 1 and s.step = 3 then t.came_1_3
            when s.f = 1 and s.step = 4 then t.came_1_4
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
    cast(cast(people as float64) / nullif(cast(entered as float64), 0) as numeric) as share,
    is_final
from counted
where entered > 0
