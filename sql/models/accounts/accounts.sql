-- One row per account, of what its members did for it: an event counts for the
-- account that it names, whomever else its member works for.
select
    account_id,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    count(*) as n_members,
    cast(countif(last_seen_at >= {{ add_hours(as_of(), '-24 * 30') }}) as int64) as n_active_30d,
    cast(sum(n_events) as int64) as n_events,
    cast(sum(orders) as int64) as orders,
    sum(revenue) as revenue
from {{ ref('account_members') }}
group by account_id
