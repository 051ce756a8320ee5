-- Who belongs to which account, by the events that carried its group id, of people
-- who agree to analytics. One may belong to several.
select
    group_id as account_id,
    profile_id,
    min(occurred_at) as first_seen_at,
    max(occurred_at) as last_seen_at,
    count(*) as n_events,
    count(case when event = 'Order Completed' then 1 end) as orders,
    coalesce(sum(case when event = 'Order Completed' then {{ json_number('properties', '$.total') }} end), 0) as revenue
from {{ consented_events('analytics') }} as e
where group_id is not null and occurred_at < {{ as_of() }}
group by group_id, profile_id
