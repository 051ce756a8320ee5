-- Exactly one row per event: the first one received. An event that carries an
-- erased pseudonym is left out whole, since its content is about that person.
with received as (
    select * from sluis.events
    where event_id is not null
    qualify row_number() over (partition by event_id order by received_at, spool_id, spool_offset) = 1
),

erased as (
    select e.event_id
    from sluis.events as e
    cross join unnest(e.identifiers) as identifier_list(identifier)
    join sluis.erasures as x on x.pseudonym = identifier.pseudonym
    union distinct
    select e.event_id
    from sluis.events as e
    join sluis.erasures as x on x.pseudonym = e.anonymous_id
    union distinct
    select e.event_id
    from sluis.events as e
    join sluis.erasures as x on x.pseudonym = e.user_id
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
    r.plan_version
from received as r
left join erased as x on x.event_id = r.event_id
where x.event_id is null
