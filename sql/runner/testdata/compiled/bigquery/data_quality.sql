-- How much of what each source sent lately is bad, by each check, with events to
-- look at. What the collector did not keep is told by its ledger, as numbers.
with copied as (
    select event_id
    from sluis.events
    where received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour)
    group by event_id
    having count(*) > 1
),

off_plan as (
    select distinct e.event_id, e.spool_id, e.spool_offset
    from (
        select event_id, spool_id, spool_offset, violations
        from sluis.events
        where received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour) and array_length(violations) > 0
    ) as e
    cross join unnest(e.violations) as violation
    where violation is not null
),

identified as (
    select i.identifier_set, max(p.n_nodes) as n_nodes
    from sluis_models.identifier_owners as i
    join sluis_models.profiles as p on p.profile_id = i.profile_id
    group by i.identifier_set
),

recent as (
    select
        coalesce(e.source_id, '') as source_id,
        e.event_id,
        coalesce(true, false) as asked_1,
        coalesce((true) and (unix_micros(e.received_at) - unix_micros(e.occurred_at) > 86400000000), false) as bad_1,
        coalesce(not e.is_bot, false) as asked_2,
        coalesce((not e.is_bot) and (i.identifier_set is null), false) as bad_2,
        coalesce(true, false) as asked_3,
        coalesce((true) and (not coalesce('analytics' in unnest(e.purposes), false) and not coalesce('personalization' in unnest(e.purposes), false) and not coalesce('marketing' in unnest(e.purposes), false) and not coalesce('advertising' in unnest(e.purposes), false)), false) as bad_3,
        coalesce(true, false) as asked_4,
        coalesce((true) and (o.event_id is not null), false) as bad_4,
        coalesce(true, false) as asked_5,
        coalesce((true) and (c.event_id is not null), false) as bad_5,
        coalesce(e.type in ('track', 'page', 'screen'), false) as asked_6,
        coalesce((e.type in ('track', 'page', 'screen')) and (coalesce(case when e.type = 'track' then e.event when e.type = 'page' then e.page_path else coalesce(e.event, e.page_title) end, '') = ''), false) as bad_6,
        coalesce(true, false) as asked_7,
        coalesce((true) and (unix_micros(e.occurred_at) - unix_micros(e.received_at) > 300000000), false) as bad_7,
        coalesce(true, false) as asked_8,
        coalesce((true) and (e.is_bot), false) as bad_8,
        coalesce(i.identifier_set is not null, false) as asked_9,
        coalesce((i.identifier_set is not null) and (i.n_nodes > 50), false) as bad_9,
        coalesce(true, false) as asked_10,
        coalesce((true) and (e.source_id in ('')), false) as bad_10
    from sluis_models.stg_events as e
    left join copied as c on c.event_id = e.event_id
    left join off_plan as o on o.event_id = e.event_id and o.spool_id = e.spool_id and o.spool_offset = e.spool_offset
    left join identified as i on i.identifier_set = case when not e.is_bot then e.identifier_set end
    where e.received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour)
),

counted as (
    select
        source_id,
        countif(asked_1) as asked_1,
        countif(bad_1) as bad_1,
        coalesce(array_agg(case when bad_1 then event_id end ignore nulls order by coalesce(case when bad_1 then event_id end, '') limit 5), []) as sample_1,
        countif(asked_2) as asked_2,
        countif(bad_2) as bad_2,
        coalesce(array_agg(case when bad_2 then event_id end ignore nulls order by coalesce(case when bad_2 then event_id end, '') limit 5), []) as sample_2,
        countif(asked_3) as asked_3,
        countif(bad_3) as bad_3,
        coalesce(array_agg(case when bad_3 then event_id end ignore nulls order by coalesce(case when bad_3 then event_id end, '') limit 5), []) as sample_3,
        countif(asked_4) as asked_4,
        countif(bad_4) as bad_4,
        coalesce(array_agg(case when bad_4 then event_id end ignore nulls order by coalesce(case when bad_4 then event_id end, '') limit 5), []) as sample_4,
        countif(asked_5) as asked_5,
        countif(bad_5) as bad_5,
        coalesce(array_agg(case when bad_5 then event_id end ignore nulls order by coalesce(case when bad_5 then event_id end, '') limit 5), []) as sample_5,
        countif(asked_6) as asked_6,
        countif(bad_6) as bad_6,
        coalesce(array_agg(case when bad_6 then event_id end ignore nulls order by coalesce(case when bad_6 then event_id end, '') limit 5), []) as sample_6,
        countif(asked_7) as asked_7,
        countif(bad_7) as bad_7,
        coalesce(array_agg(case when bad_7 then event_id end ignore nulls order by coalesce(case when bad_7 then event_id end, '') limit 5), []) as sample_7,
        countif(asked_8) as asked_8,
        countif(bad_8) as bad_8,
        coalesce(array_agg(case when bad_8 then event_id end ignore nulls order by coalesce(case when bad_8 then event_id end, '') limit 5), []) as sample_8,
        countif(asked_9) as asked_9,
        countif(bad_9) as bad_9,
        coalesce(array_agg(case when bad_9 then event_id end ignore nulls order by coalesce(case when bad_9 then event_id end, '') limit 5), []) as sample_9,
        countif(asked_10) as asked_10,
        countif(bad_10) as bad_10,
        coalesce(array_agg(case when bad_10 then event_id end ignore nulls order by coalesce(case when bad_10 then event_id end, '') limit 5), []) as sample_10
    from recent
    group by source_id
),

ledger as (
    select
        coalesce(source_id, '') as source_id,
        sum(case when outcome = 'received' then n else 0 end) as received,
        sum(case when outcome = 'quarantined' then n else 0 end) as quarantined,
        sum(case when outcome = 'withheld' then n else 0 end) as withheld
    from sluis.ledger
    where minute >= timestamp_add(current_timestamp(), interval -24 * 30 hour)
    group by coalesce(source_id, '')
),

-- Of an event that no longer waits there is a row that says what became of it.
waiting as (
    select
        coalesce(source_id, '') as source_id,
        count(distinct quarantine_id) as n
    from sluis.quarantine
    where received_at >= timestamp_add(current_timestamp(), interval -24 * 30 hour)
        and quarantine_id not in (select quarantine_id from sluis.quarantine where outcome is not null and quarantine_id is not null)
    group by coalesce(source_id, '')
),

found as (
    select source_id, 'late' as problem, 'stale' as verdict, bad_1 as n_bad, asked_1 as n_asked, sample_1 as sample_event_ids from counted
    union all select source_id, 'unidentified' as problem, 'inaccessible' as verdict, bad_2 as n_bad, asked_2 as n_asked, sample_2 as sample_event_ids from counted
    union all select source_id, 'without_purpose' as problem, 'inaccessible' as verdict, bad_3 as n_bad, asked_3 as n_asked, sample_3 as sample_event_ids from counted
    union all select source_id, 'off_plan' as problem, 'disorganised' as verdict, bad_4 as n_bad, asked_4 as n_asked, sample_4 as sample_event_ids from counted
    union all select source_id, 'duplicate' as problem, 'disorganised' as verdict, bad_5 as n_bad, asked_5 as n_asked, sample_5 as sample_event_ids from counted
    union all select source_id, 'nameless' as problem, 'disorganised' as verdict, bad_6 as n_bad, asked_6 as n_asked, sample_6 as sample_event_ids from counted
    union all select source_id, 'premature' as problem, 'disorganised' as verdict, bad_7 as n_bad, asked_7 as n_asked, sample_7 as sample_event_ids from counted
    union all select source_id, 'bot' as problem, 'disorganised' as verdict, bad_8 as n_bad, asked_8 as n_asked, sample_8 as sample_event_ids from counted
    union all select source_id, 'crowded_profile' as problem, 'disorganised' as verdict, bad_9 as n_bad, asked_9 as n_asked, sample_9 as sample_event_ids from counted
    union all select source_id, 'third_party' as problem, 'not_first_party' as verdict, bad_10 as n_bad, asked_10 as n_asked, sample_10 as sample_event_ids from counted
    union all
    select l.source_id, 'quarantined' as problem, 'inaccessible' as verdict, coalesce(w.n, 0) as n_bad, l.received as n_asked, array<string>[] as sample_event_ids
    from ledger as l
    left join waiting as w on w.source_id = l.source_id
    union all
    select source_id, 'withheld' as problem, 'inaccessible' as verdict, withheld as n_bad, received as n_asked, array<string>[] as sample_event_ids from ledger
)

select
    source_id,
    problem,
    verdict,
    cast(n_bad as int64) as n_bad,
    cast(n_asked as int64) as n_asked,
    cast(n_bad / nullif(n_asked, 0) as numeric) as share,
    n_bad / nullif(n_asked, 0) > 0.05 as is_bad,
    sample_event_ids
from found
where n_asked > 0
