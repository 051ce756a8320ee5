-- Who belongs to which account, by the events that carried its group id, of people
-- who agree to analytics. One may belong to several; the primary one is that of most
-- of their events, and of several the one seen last.
with members as (
    select
        group_id as account_id,
        profile_id,
        {{ last_by(json_text('traits', '$.role'), 'occurred_at', 'event_id') }} as role,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        count(*) as n_events,
        count(case when event = 'Order Completed' then 1 end) as orders,
        coalesce(sum(case when event = 'Order Completed' then {{ json_number('properties', '$.total') }} end), 0) as revenue
    from {{ consented_events('analytics') }} as e
    where group_id is not null and occurred_at < {{ as_of() }}
    group by group_id, profile_id
)

select
    account_id,
    profile_id,
    role,
    row_number() over (
        partition by profile_id
        order by n_events desc, last_seen_at desc, account_id nulls last
    ) = 1 as is_primary,
    first_seen_at,
    last_seen_at,
    n_events,
    orders,
    revenue
from members
