-- Exactly one row per event: the first one received. An event that carries an
-- erased pseudonym is left out whole, since its content is about that person.
with received as (
    select * from sluis.events
    where event_id is not null
    qualify row_number() over (partition by event_id order by received_at, spool_id, spool_offset) = 1
),

mentioned as (
    select r.event_id, identifier.pseudonym as node_key
    from received as r
    cross join unnest(r.identifiers) as identifier_list(identifier)
    union distinct
    select event_id, anonymous_id as node_key from received where anonymous_id is not null
    union distinct
    select event_id, user_id as node_key from received where user_id is not null
),

erased as (
    select distinct m.event_id
    from mentioned as m
    join sluis.erasures as x on x.pseudonym = m.node_key
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
