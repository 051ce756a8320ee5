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
    from {{ ref('identity_map') }} as m
    join {{ ref('identity_nodes') }} as n on n.node_key = m.node_key
    join {{ ref('identifier_kinds') }} as k on k.kind = n.id_type
    group by m.profile_id
),

behaviour as (
    select * from {{ consented_events('analytics') }} as e
),

counted as (
    select
        profile_id,
        count(*) as n_events,
        countif(type = 'page') as pages,
        countif(event = 'Live Chat Started') as chats
    from behaviour
    group by profile_id
),

last_page as (
    select profile_id, page_path
    from behaviour
    where page_path is not null
    qualify row_number() over (partition by profile_id order by occurred_at desc, event_id desc) = 1
),

first_campaign as (
    select profile_id, utm_source
    from behaviour
    where utm_source is not null
    qualify row_number() over (partition by profile_id order by occurred_at, event_id) = 1
),

consents as (
    select
        profile_id
        {%- for purpose in var('purposes') %},
        max(case when purpose = '{{ purpose }}' and allowed then 1 else 0 end) = 1 as consent_{{ purpose }}
        {%- endfor %}
    from {{ ref('consent_profile') }}
    group by profile_id
)

select
    p.profile_id,
    p.first_seen_at,
    p.last_seen_at,
    cast(coalesce(n.n_events, 0) as int64) as n_events,
    cast(p.n_nodes as int64) as n_nodes,
    cast(p.n_devices as int64) as n_devices,
    p.is_known,
    l.page_path as last_page_path,
    f.utm_source as first_utm_source,
    cast(coalesce(n.pages, 0) as int64) as pages,
    cast(coalesce(n.chats, 0) as int64) as chats
    {%- for purpose in var('purposes') %},
    coalesce(c.consent_{{ purpose }}, false) as consent_{{ purpose }}
    {%- endfor %}
from people as p
left join counted as n on n.profile_id = p.profile_id
left join last_page as l on l.profile_id = p.profile_id
left join first_campaign as f on f.profile_id = p.profile_id
left join consents as c on c.profile_id = p.profile_id
