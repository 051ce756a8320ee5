-- Exactly one row per event: the first one received. An event of which a copy
-- carries an erased pseudonym is left out whole, since its content is about that
-- person. A run builds the days anew that something changed on.
with landed as (
    select * from sluis.events
    where event_id is not null
),

received as (
    select * from landed
    where true
    qualify row_number() over (partition by event_id order by received_at, spool_id, spool_offset) = 1
),

carried as (
    select e.event_id, identifier.pseudonym
    from landed as e
    cross join unnest(e.identifiers) as identifier
    union distinct
    select event_id, anonymous_id as pseudonym from landed
    union distinct
    select event_id, user_id as pseudonym from landed
),

pseudonyms as (
    select event_id, array_agg(pseudonym ignore nulls order by pseudonym) as pseudonyms
    from carried
    where pseudonym is not null
    group by event_id
),

erased as (
    select distinct c.event_id
    from carried as c
    join sluis.erasures as x on x.pseudonym = c.pseudonym
)

select
    r.event_id,
    r.source_id,
    r.type,
    r.event,
    coalesce(r.occurred_at, r.received_at) as occurred_at,
    r.received_at,
    r.anonymous_id,
    r.user_id,
    r.group_id,
    r.identifiers,
    r.purposes,
    r.denied,
    r.decision_id,
    r.policy_version,
    r.region,
    r.page_url,
    r.page_path,
    r.page_title,
    r.referrer_host,
    r.utm_source,
    r.utm_medium,
    r.utm_campaign,
    r.utm_term,
    r.utm_content,
    r.click_id_kind,
    r.device_class,
    coalesce(r.is_bot, false) as is_bot,
    r.properties,
    r.traits,
    r.plan_version,
    p.pseudonyms,
    r.spool_id,
    r.spool_offset
from received as r
left join pseudonyms as p on p.event_id = r.event_id
left join erased as x on x.event_id = r.event_id
where x.event_id is null
