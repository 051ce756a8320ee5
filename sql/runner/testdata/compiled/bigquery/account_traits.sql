-- What is known of each account, one row each, as of now, by the events that carry its
-- group id, of people who agree to analytics. The list of traits is in
-- macros/accounts/account_trait_list.sql.
with events as (
    select e.*, e.group_id as account_id, current_timestamp() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce('analytics' in unnest(e.purposes), false)
) as e
    where e.group_id is not null
)

select
    told.account_id,
    told.members,
    told.members_30d,
    told.events_30d,
    told.plan,
    told.orders,
    told.revenue,
    told.revenue_90d,
    told.last_order_at,
    told.any_chatted,
    told.all_active_30d,
    told.none_bought
from (
    select
        account_id,
        count(distinct case when (true) then profile_id end) as members,
        count(distinct case when (true) and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then profile_id end) as members_30d,
        count(case when (true) and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then 1 end) as events_30d,
        array_agg(case when (true) then json_value(traits, '$.plan') end ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as plan,
        count(case when (event = 'Order Completed') then 1 end) as orders,
        coalesce(sum(case when (event = 'Order Completed') then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue,
        coalesce(sum(case when (event = 'Order Completed') and occurred_at >= timestamp_add(as_of, interval -24 * 90 hour) then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue_90d,
        max(case when (event = 'Order Completed') then occurred_at end) as last_order_at,
        count(distinct case when case when (event = 'Live Chat Started') then 1 end = 1 then profile_id end) > 0 as any_chatted,
        count(distinct case when case when (true) and occurred_at >= timestamp_add(as_of, interval -24 * 30 hour) then 1 end = 1 then profile_id end) = count(distinct profile_id) as all_active_30d,
        count(distinct case when case when (event = 'Order Completed') then 1 end = 1 then profile_id end) = 0 as none_bought
    from events
    where occurred_at < as_of
    group by account_id
) as told
