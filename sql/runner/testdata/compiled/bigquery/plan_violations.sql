-- What breaks the tracking plan, by source and event, of the last days: what landed
-- all the same, and what still waits in quarantine. data_quality says how much it is;
-- this says what to mend.
with landed as (
    select
        coalesce(source_id, '') as source_id,
        coalesce(event, '') as event,
        violation as problem,
        false as is_quarantined,
        event_id as id,
        received_at
    from sluis.events
    cross join unnest(violations) as violation
    where received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour) and violation is not null
),

settled as (
    select distinct quarantine_id from sluis.quarantine where outcome is not null
),

waiting as (
    select
        coalesce(q.source_id, '') as source_id,
        coalesce(q.event, '') as event,
        case when q.path is null then coalesce(q.reason, '') else coalesce(q.reason, '') || ' ' || q.path end as problem,
        true as is_quarantined,
        q.quarantine_id as id,
        q.received_at
    from sluis.quarantine as q
    left join settled as s on s.quarantine_id = q.quarantine_id
    where q.received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour) and s.quarantine_id is null
)

select
    source_id,
    event,
    problem,
    is_quarantined,
    cast(count(distinct id) as int64) as n,
    min(received_at) as first_seen_at,
    max(received_at) as last_seen_at,
    coalesce(array_agg(distinct id ignore nulls order by id limit 5), []) as sample_ids
from (
    select * from landed
    union all
    select * from waiting
) as found
group by source_id, event, problem, is_quarantined
