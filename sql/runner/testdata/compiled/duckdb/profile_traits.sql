-- What the people who agree to analytics do, one row each, as of now. The list of
-- traits is in macros/traits/trait_list.sql.
with events as (
    select e.*, now() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce(list_contains(e.purposes, 'analytics'), false)
) as e
)

select
    profile_id,
    count(case when type = 'page' then 1 end) as page_views,
    count(case when type = 'page' and occurred_at >= (as_of + to_hours(-24 * 30)) then 1 end) as page_views_30d,
    count(distinct case when true then page_path end) as pages,
    coalesce(array_agg(distinct case when true then utm_source end order by case when true then utm_source end) filter (where case when true then utm_source end is not null), [])[1:100] as sources,
    arg_min(case when times_5 >= 2 then case when true then page_path end end, row(-times_5, coalesce(cast(page_path as string), ''))) filter (where case when times_5 >= 2 then case when true then page_path end end is not null) as favourite_page,
    arg_min(case when true then utm_source end, row(occurred_at, event_id)) filter (where case when true then utm_source end is not null) as first_source,
    arg_max(case when true then utm_source end, row(occurred_at, event_id)) filter (where case when true then utm_source end is not null) as last_source,
    arg_max(case when true then page_path end, row(occurred_at, event_id)) filter (where case when true then page_path end is not null) as last_page,
    arg_max(case when true then case when json_type(traits, '$.plan') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.plan') end end, row(occurred_at, event_id)) filter (where case when true then case when json_type(traits, '$.plan') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.plan') end end is not null) as plan,
    count(case when event = 'Order Completed' then 1 end) as orders,
    coalesce(sum(case when event = 'Order Completed' then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as revenue,
    coalesce(sum(case when event = 'Order Completed' and occurred_at >= (as_of + to_hours(-24 * 90)) then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as revenue_90d,
    cast(cast(sum(case when event = 'Order Completed' then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as double) / nullif(count(case when event = 'Order Completed' then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as decimal(38, 9)) as average_order,
    min(case when event = 'Order Completed' then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as smallest_order,
    max(case when event = 'Order Completed' then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as largest_order,
    max(case when event = 'Order Completed' then occurred_at end) as last_order_at
from (
    select
        *,
        count(*) over (partition by profile_id, case when true then page_path end) as times_5
    from events
    where occurred_at < as_of
) as evidence
group by profile_id
