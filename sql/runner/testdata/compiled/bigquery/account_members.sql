-- Who belongs to which account, by the events that carried its group id, of people
-- who agree to analytics. One may belong to several; the primary one is that of most
-- of their events, and of several the one seen last.
with members as (
    select
        group_id as account_id,
        profile_id,
        array_agg(json_value(traits, '$.role') ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as role,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        count(*) as n_events,
        count(case when event = 'Order Completed' then 1 end) as orders,
        coalesce(sum(case when event = 'Order Completed' then safe_cast(json_value(properties, '$.total') as numeric) end), 0) as revenue
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce('analytics' in unnest(e.purposes), false)
) as e
    where group_id is not null and occurred_at < current_timestamp()
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
