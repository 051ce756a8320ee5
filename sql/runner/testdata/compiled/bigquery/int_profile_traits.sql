-- The traits of profile_traits, and until when they stay what they are without new
-- events. A run makes those of people anew of whom something changed, or of whom
-- an event left a window of time.
with usable as (
    select profile_id, sum(n_events) as n_events, bit_xor(fingerprint) as fingerprint
    from (
    select o.profile_id, b.*
    from sluis_models.int_behaviour_days as b
    join sluis_models.identifier_owners as o on o.identifier_set = b.identifier_set
    join sluis_models.consent_profile as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
) as b
    where not is_later
    group by profile_id
),

wanted as (
    select profile_id from usable
),

events as (
    select e.*, current_timestamp() as as_of from (
    select e.*
    from sluis_models.profile_events as e
    join wanted as w on w.profile_id = e.profile_id
    where coalesce('analytics' in unnest(e.purposes), false) and e.occurred_at < current_timestamp()
) as e
),

valued as (
    select
        told.profile_id,
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
        told.last_order_at,
        told.changes_after
    from (
        select
            profile_id,
            count(case when (type = 'page') then 1 end) as page_views,
            count(case when (type = 'page') and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then 1 end) as page_views_30d,
            count(distinct case when (true) then page_path end) as pages,
            coalesce(array_agg(distinct case when (true) then utm_source end ignore nulls order by case when (true) then utm_source end limit 100), []) as sources,
            array_agg(case when (true) then utm_source end ignore nulls order by occurred_at, event_id limit 1)[safe_offset(0)] as first_source,
            array_agg(case when (true) then utm_source end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as last_source,
            array_agg(case when (true) then page_path end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as last_page,
            array_agg(case when (true) then json_value(traits, '$.plan') end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as plan,
            count(case when (event = 'Order Completed') then 1 end) as orders,
            coalesce(sum(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue,
            coalesce(sum(case when (event = 'Order Completed') and occurred_at >= timestamp_add(as_of, interval -24 * 90 hour) then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue_90d,
            cast(cast(sum(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end) as float64) / nullif(count(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as numeric) as average_order,
            min(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end) as smallest_order,
            max(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end) as largest_order,
            max(case when (event = 'Order Completed') then occurred_at end) as last_order_at,
            min(case when (true) then case when (type = 'page') and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then timestamp_add(occurred_at, interval 24 * 30 hour) when (event = 'Order Completed') and occurred_at >= timestamp_add(as_of, interval -24 * 90 hour) then timestamp_add(occurred_at, interval 24 * 90 hour) end end) as changes_after
        from events
        where occurred_at < as_of
        group by profile_id
    ) as told
    left join (
        select
            profile_id,
            array_agg(case when times >= 2 then valued end ignore nulls order by -times, coalesce(cast(valued as string), '') limit 1)[safe_offset(0)] as favourite_page
        from (
            select profile_id, valued, count(*) as times
            from (
                select profile_id, case when (true) then page_path end as valued
                from events
                where occurred_at < as_of
            ) as each_event
            where valued is not null
            group by profile_id, valued
        ) as each_value
        group by profile_id
    ) as frequent_5
        on frequent_5.profile_id = told.profile_id
)

select
    c.profile_id,
    cast(c.n_events as int64) as n_events,
    c.fingerprint,
    'b89a0e507738829e6f3453437ee6e951' as definition,
    current_timestamp() as made_as_of,
    v.changes_after,
    v.page_views,
    v.page_views_30d,
    v.pages,
    v.sources,
    v.favourite_page,
    v.first_source,
    v.last_source,
    v.last_page,
    v.plan,
    v.orders,
    v.revenue,
    v.revenue_90d,
    v.average_order,
    v.smallest_order,
    v.largest_order,
    v.last_order_at
from usable as c
left join valued as v on v.profile_id = c.profile_id
