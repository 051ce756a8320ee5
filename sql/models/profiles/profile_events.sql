-- Events by profile, each with the purposes that it may be used for. Whoever
-- reads this for a purpose must filter by it.
select
    o.profile_id,
    e.event_id,
    e.source_id,
    e.type,
    e.event,
    e.occurred_at,
    e.received_at,
    e.purposes,
    e.group_id,
    e.region,
    e.page_url,
    e.page_path,
    e.page_title,
    e.referrer_host,
    e.utm_source,
    e.utm_medium,
    e.utm_campaign,
    e.utm_term,
    e.utm_content,
    e.click_id_kind,
    e.device_class,
    e.properties,
    e.traits
from {{ ref('stg_events') }} as e
join {{ ref('identifier_owners') }} as o on o.identifier_set = e.identifier_set
where not e.is_bot
