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
        coalesce(epoch_us(occurred_at), 0) as moment,
        cast(timezone('UTC', occurred_at) as date) as day,
        coalesce(type = 'page', false) as is_1_1,
        coalesce(event = 'Product Viewed', false) as is_1_2,
        coalesce(event = 'Checkout Started', false) as is_1_3,
        coalesce(event = 'Order Completed', false) as is_1_4
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce(list_contains(e.purposes, 'analytics'), false)
) as e
    where occurred_at < now()
),

next_0 as (
    select * from matched
    where false
        or is_1_1
        or is_1_2
        or is_1_3
        or is_1_4
),

next_1 as materialized (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_4 then moment end) over later as at_1_4
    from next_0
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

next_2 as materialized (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_3 then moment end) over later as at_1_3,
        min(case when is_1_3 then at_1_4 end) over later as at_1_4
    from next_1
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

next_3 as materialized (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_2 then moment end) over later as at_1_2,
        min(case when is_1_2 then at_1_3 end) over later as at_1_3,
        min(case when is_1_2 then at_1_4 end) over later as at_1_4
    from next_2
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

people as (
    select
        profile_id,
        day,
        max(case when is_1_1 then 1 else 0 end) as came_1_1,
        max(case when is_1_1 and at_1_2 - moment <= 168 * 3600000000 then 1 else 0 end) as came_1_2,
        max(case when is_1_1 and at_1_3 - moment <= 168 * 3600000000 then 1 else 0 end) as came_1_3,
        max(case when is_1_1 and at_1_4 - moment <= 168 * 3600000000 then 1 else 0 end) as came_1_4
    from next_3
    group by profile_id, day
),

totals as (
    select
        day,
        sum(came_1_1) as came_1_1,
        sum(came_1_2) as came_1_2,
        sum(came_1_3) as came_1_3,
        sum(came_1_4) as came_1_4
    from people
    group by day
),

steps as (
    select 'purchase' as funnel, 1 as step, 'visit' as step_name, 1 as f, cast(timezone('UTC', (now() + to_hours(-168))) as date) as final_before
    union all select 'purchase' as funnel, 2 as step, 'product' as step_name, 1 as f, cast(timezone('UTC', (now() + to_hours(-168))) as date) as final_before
    union all select 'purchase' as funnel, 3 as step, 'checkout' as step_name, 1 as f, cast(timezone('UTC', (now() + to_hours(-168))) as date) as final_before
    union all select 'purchase' as funnel, 4 as step, 'order' as step_name, 1 as f, cast(timezone('UTC', (now() + to_hours(-168))) as date) as final_before
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
    cast(cast(people as double) / nullif(cast(entered as double), 0) as decimal(38, 9)) as share,
    is_final
from counted
where entered > 0
