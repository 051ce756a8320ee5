-- Exactly one row per event: the first one received. What was erased is gone from
-- the landing table, with all copies of it. A run builds the days anew that
-- something changed on.
with landed as (
    select * from sluis.events
    where event_id is not null
        and received_at >= timestamp '2026-02-27 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00' and (received_at >= timestamp '2026-02-27 00:00:00+00' and received_at < timestamp '2026-02-28 00:00:00+00' or received_at >= timestamp '2026-03-01 00:00:00+00' and received_at < timestamp '2026-03-02 00:00:00+00' or received_at >= timestamp '2026-03-03 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00') and case spool_id when 's-1' then spool_offset <= 40 when 's-2' then spool_offset <= 7 else false end
),

-- Few events have copies, and only these are compared with each other.
copied as (
    select event_id from landed group by event_id having count(*) > 1
),

copies as (
    select l.* from landed as l join copied as c on c.event_id = l.event_id
),

carried as (
    select e.event_id, identifier.pseudonym
    from copies as e
    cross join unnest(e.identifiers) as identifier
    union distinct
    select event_id, anonymous_id as pseudonym from copies
    union distinct
    select event_id, user_id as pseudonym from copies
),

pseudonyms as (
    select event_id, array_agg(pseudonym ignore nulls order by pseudonym) as pseudonyms
    from carried
    where pseudonym is not null
    group by event_id
),

received as (
    select l.*, array(select distinct p from unnest(array_concat(array(select i.pseudonym from unnest(l.identifiers) as i), [l.anonymous_id, l.user_id])) as p where p is not null order by p) as pseudonyms
    from landed as l
    left join copied as c on c.event_id = l.event_id
    where c.event_id is null
    union all
    select e.*, p.pseudonyms
    from copies as e
    left join pseudonyms as p on p.event_id = e.event_id
    where true
    qualify row_number() over (partition by e.event_id order by e.received_at, e.spool_id, e.spool_offset) = 1
),

built as (
    select
        r.* replace (coalesce(r.occurred_at, r.received_at) as occurred_at, coalesce(r.is_bot, false) as is_bot),
        array_to_string(array(select array_to_string([coalesce(i.kind, ''), i.pseudonym], ':') from unnest(r.identifiers) as i with offset as place where i.pseudonym is not null order by place nulls last), ' ') as identifier_set
    from received as r
)

select event_id, source_id, type, event, occurred_at, received_at, anonymous_id, user_id, group_id, identifiers, purposes, denied, decision_id, policy_version, region, page_url, page_path, page_title, referrer_host, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_kind, device_class, is_bot, properties, traits, plan_version, pseudonyms, identifier_set, spool_id, spool_offset
from built
where event_id in (select event_id from landed where received_at >= timestamp '2026-03-01 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00' and (received_at >= timestamp '2026-03-01 00:00:00+00' and received_at < timestamp '2026-03-02 00:00:00+00' or received_at >= timestamp '2026-03-03 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00'))
union all
select event_id, source_id, type, event, occurred_at, received_at, anonymous_id, user_id, group_id, identifiers, purposes, denied, decision_id, policy_version, region, page_url, page_path, page_title, referrer_host, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_kind, device_class, is_bot, properties, traits, plan_version, pseudonyms, identifier_set, spool_id, spool_offset
from sluis_models.stg_events
where (received_at >= timestamp '2026-02-27 00:00:00+00' and received_at < timestamp '2026-02-28 00:00:00+00') and event_id not in (select event_id from landed where received_at >= timestamp '2026-03-01 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00' and (received_at >= timestamp '2026-03-01 00:00:00+00' and received_at < timestamp '2026-03-02 00:00:00+00' or received_at >= timestamp '2026-03-03 00:00:00+00' and received_at < timestamp '2026-03-04 00:00:00+00'))
