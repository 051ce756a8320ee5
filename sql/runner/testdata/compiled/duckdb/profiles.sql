-- One row per person. How they behave comes from events collected for
-- analytics only, and of those only while the person still agrees to it.
with people as (
    select
        m.profile_id,
        min(n.first_seen_at) as first_seen_at,
        max(n.last_seen_at) as last_seen_at,
        count(*) as n_nodes,
        countif(k.is_device) as n_devices,
        countif(k.is_known) > 0 as is_known
    from sluis_models.identity_map as m
    join sluis_models.identity_nodes as n on n.node_key = m.node_key
    join sluis_models.identifier_kinds as k on k.kind = n.id_type
    group by m.profile_id
),

behaviour as (
    select
        profile_id,
        sum(n_events) as n_events,
        sum(pages) as pages,
        sum(chats) as chats,
        arg_max(last_page_path, row(last_page_at, last_page_event_id)) filter (where last_page_path is not null) as last_page_path,
        arg_min(first_utm_source, row(coalesce(epoch_us(first_utm_at), 0), coalesce(first_utm_event_id, ''))) filter (where first_utm_source is not null) as first_utm_source
    from (
    select o.profile_id, b.*
    from sluis_models.int_behaviour_days as b
    join sluis_models.identifier_owners as o on o.identifier_set = b.identifier_set
    join sluis_models.consent_profile as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
) as b
    group by profile_id
),

consents as (
    select
        profile_id,
        max(case when purpose = 'necessary' and allowed then 1 else 0 end) = 1 as consent_necessary,
        max(case when purpose = 'identity' and allowed then 1 else 0 end) = 1 as consent_identity,
        max(case when purpose = 'analytics' and allowed then 1 else 0 end) = 1 as consent_analytics,
        max(case when purpose = 'personalization' and allowed then 1 else 0 end) = 1 as consent_personalization,
        max(case when purpose = 'marketing' and allowed then 1 else 0 end) = 1 as consent_marketing,
        max(case when purpose = 'advertising' and allowed then 1 else 0 end) = 1 as consent_advertising,
        max(case when purpose = 'sale' and allowed then 1 else 0 end) = 1 as consent_sale
    from sluis_models.consent_profile
    group by profile_id
)

select
    p.profile_id,
    p.first_seen_at,
    p.last_seen_at,
    cast(coalesce(b.n_events, 0) as int64) as n_events,
    cast(p.n_nodes as int64) as n_nodes,
    cast(p.n_devices as int64) as n_devices,
    p.is_known,
    b.last_page_path,
    b.first_utm_source,
    cast(coalesce(b.pages, 0) as int64) as pages,
    cast(coalesce(b.chats, 0) as int64) as chats,
    coalesce(c.consent_necessary, false) as consent_necessary,
    coalesce(c.consent_identity, false) as consent_identity,
    coalesce(c.consent_analytics, false) as consent_analytics,
    coalesce(c.consent_personalization, false) as consent_personalization,
    coalesce(c.consent_marketing, false) as consent_marketing,
    coalesce(c.consent_advertising, false) as consent_advertising,
    coalesce(c.consent_sale, false) as consent_sale
from people as p
left join behaviour as b on b.profile_id = p.profile_id
left join consents as c on c.profile_id = p.profile_id
