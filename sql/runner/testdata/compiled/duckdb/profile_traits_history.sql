-- The traits of profile_traits through time, as they were at the end of each day,
-- by UTC, on which one changed. It is computed from the events, so that what
-- arrives late is in it as if it had come in time.
with events as (
    select * from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce(list_contains(e.purposes, 'analytics'), false)
) as e
),

spans as (
    select 0 as days
    union distinct select 30 as days
    union distinct select 90 as days
),

moments as (
    select distinct e.profile_id, (date_trunc('day', e.occurred_at) + to_hours(24 * (s.days + 1))) as as_of
    from events as e
    cross join spans as s
),

known as (
    select e.*, m.as_of
    from moments as m
    join events as e on e.profile_id = m.profile_id
    where m.as_of <= now()
),

states as (
    select
        told.profile_id,
        told.as_of,
        told.page_views,
        told.page_views_30d,
        told.pages,
        told.sources,
        frequent_5.favourite_page,
        told.first_source,
        told.last_source,
        told.last_page,
        told.plan,
        told.orders,
        told.revenue,
        told.revenue_90d,
        told.average_order,
        told.smallest_order,
        told.largest_order,
        told.last_order_at
    from (
        select
            profile_id, as_of,
            count(case when (type = 'page') then 1 end) as page_views,
            count(case when (type = 'page') and occurred_at >= (as_of + to_hours(-24 * 30)) then 1 end) as page_views_30d,
            count(distinct case when (true) then page_path end) as pages,
            coalesce(array_agg(distinct case when (true) then utm_source end order by case when (true) then utm_source end) filter (where case when (true) then utm_source end is not null), [])[1:100] as sources,
            arg_min(case when (true) then utm_source end, row(occurred_at, event_id)) filter (where case when (true) then utm_source end is not null) as first_source,
            arg_max(case when (true) then utm_source end, row(occurred_at, event_id)) filter (where case when (true) then utm_source end is not null) as last_source,
            arg_max(case when (true) then page_path end, row(occurred_at, event_id)) filter (where case when (true) then page_path end is not null) as last_page,
            arg_max(case when (true) then case when json_type(traits, '$.plan') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.plan') end end, row(occurred_at, event_id)) filter (where case when (true) then case when json_type(traits, '$.plan') not in ('OBJECT', 'ARRAY') then json_extract_string(traits, '$.plan') end end is not null) as plan,
            count(case when (event = 'Order Completed') then 1 end) as orders,
            coalesce(sum(case when (event = 'Order Completed') then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as revenue,
            coalesce(sum(case when (event = 'Order Completed') and occurred_at >= (as_of + to_hours(-24 * 90)) then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as revenue_90d,
            cast(cast(sum(case when (event = 'Order Completed') then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as double) / nullif(count(case when (event = 'Order Completed') then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end), 0) as decimal(38, 9)) as average_order,
            min(case when (event = 'Order Completed') then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as smallest_order,
            max(case when (event = 'Order Completed') then try_cast(case when json_type(properties, '$.total') not in ('OBJECT', 'ARRAY') then json_extract_string(properties, '$.total') end as decimal(38, 9)) end) as largest_order,
            max(case when (event = 'Order Completed') then occurred_at end) as last_order_at
        from known
        where occurred_at < as_of
        group by profile_id, as_of
    ) as told
    left join (
        select
            profile_id, as_of,
            arg_min(case when times >= 2 then valued end, row(-times, coalesce(cast(valued as string), ''))) filter (where case when times >= 2 then valued end is not null) as favourite_page
        from (
            select profile_id, as_of, valued, count(*) as times
            from (
                select profile_id, as_of, case when (true) then page_path end as valued
                from known
                where occurred_at < as_of
            ) as each_event
            where valued is not null
            group by profile_id, as_of, valued
        ) as each_value
        group by profile_id, as_of
    ) as frequent_5
        on frequent_5.profile_id = told.profile_id and frequent_5.as_of = told.as_of
),

listed as (
    select 1 as place, 'page_views' as trait
    union all select 2 as place, 'page_views_30d' as trait
    union all select 3 as place, 'pages' as trait
    union all select 4 as place, 'sources' as trait
    union all select 5 as place, 'favourite_page' as trait
    union all select 6 as place, 'first_source' as trait
    union all select 7 as place, 'last_source' as trait
    union all select 8 as place, 'last_page' as trait
    union all select 9 as place, 'plan' as trait
    union all select 10 as place, 'orders' as trait
    union all select 11 as place, 'revenue' as trait
    union all select 12 as place, 'revenue_90d' as trait
    union all select 13 as place, 'average_order' as trait
    union all select 14 as place, 'smallest_order' as trait
    union all select 15 as place, 'largest_order' as trait
    union all select 16 as place, 'last_order_at' as trait
),

valued as (
    select
        s.profile_id,
        t.trait,
        s.as_of,
        case t.place
            when 4 then array_to_string(s.sources, ',')
            when 5 then cast(s.favourite_page as string)
            when 6 then cast(s.first_source as string)
            when 7 then cast(s.last_source as string)
            when 8 then cast(s.last_page as string)
            when 9 then cast(s.plan as string)
        end as value_text,
        case t.place
            when 1 then cast(s.page_views as decimal(38, 9))
            when 2 then cast(s.page_views_30d as decimal(38, 9))
            when 3 then cast(s.pages as decimal(38, 9))
            when 10 then cast(s.orders as decimal(38, 9))
            when 11 then cast(s.revenue as decimal(38, 9))
            when 12 then cast(s.revenue_90d as decimal(38, 9))
            when 13 then cast(s.average_order as decimal(38, 9))
            when 14 then cast(s.smallest_order as decimal(38, 9))
            when 15 then cast(s.largest_order as decimal(38, 9))
        end as value_number,
        case t.place
            when 16 then s.last_order_at
        end as value_time
    from states as s
    cross join listed as t
),

compared as (
    select
        v.*,
        lag(v.value_text) over (partition by v.profile_id, v.trait order by v.as_of) as old_text,
        lag(v.value_number) over (partition by v.profile_id, v.trait order by v.as_of) as old_number,
        lag(v.value_time) over (partition by v.profile_id, v.trait order by v.as_of) as old_time
    from valued as v
)

select
    profile_id,
    trait,
    as_of as valid_from,
    lead(as_of) over (partition by profile_id, trait order by as_of) as valid_to,
    value_text,
    value_number,
    value_time
from compared
where value_text is distinct from old_text or value_number is distinct from old_number or value_time is distinct from old_time
