-- What the people who agree to analytics do, one row each, as of now. The list of
-- traits is in macros/traits/trait_list.sql.
with events as (
    select e.*, current_timestamp() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce('analytics' in unnest(e.purposes), false)
) as e
)

select
    profile_id,
    count(case when type = 'page' then 1 end) as page_views,
    count(case when type = 'page' and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then 1 end) as page_views_30d,
    count(distinct case when true then page_path end) as pages,
    coalesce(array_agg(distinct case when true then utm_source end ignore nulls order by case when true then utm_source end limit 100), []) as sources,
    array_agg(case when times_5 >= 2 then case when true then page_path end end ignore nulls order by -times_5, coalesce(cast(page_path as string), '') limit 1)[safe_offset(0)] as favourite_page,
    array_agg(case when true then utm_source end ignore nulls order by occurred_at, event_id limit 1)[safe_offset(0)] as first_source,
    array_agg(case when true then utm_source end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as last_source,
    array_agg(case when true then page_path end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as last_page,
    array_agg(case when true then json_value(traits, '$.plan') end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as plan,
    count(case when event = 'Order Completed' then 1 end) as orders,
    coalesce(sum(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue,
    coalesce(sum(case when event = 'Order Completed' and occurred_at >= timestamp_add(as_of, interval -24 * 90 hour) then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue_90d,
    cast(cast(sum(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end) as float64) / nullif(count(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as numeric) as average_order,
    min(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end) as smallest_order,
    max(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end) as largest_order,
    max(case when event = 'Order Completed' then occurred_at end) as last_order_at
from (
    select
        *,
        count(*) over (partition by profile_id, case when true then page_path end) as times_5
    from events
    where occurred_at < as_of
) as evidence
group by profile_id
