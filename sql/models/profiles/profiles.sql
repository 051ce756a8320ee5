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
    select
        profile_id,
        sum(n_events) as n_events,
        sum(pages) as pages,
        sum(chats) as chats,
        {{ last_by('last_page_path', 'last_page_at', 'last_page_event_id') }} as last_page_path,
        {{ first_by('first_utm_source', 'coalesce(' ~ micros('first_utm_at') ~ ', 0)', "coalesce(first_utm_event_id, '')") }} as first_utm_source
    from {{ consented_behaviour() }} as b
    group by profile_id
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
    cast(coalesce(b.n_events, 0) as int64) as n_events,
    cast(p.n_nodes as int64) as n_nodes,
    cast(p.n_devices as int64) as n_devices,
    p.is_known,
    b.last_page_path,
    b.first_utm_source,
    cast(coalesce(b.pages, 0) as int64) as pages,
    cast(coalesce(b.chats, 0) as int64) as chats
    {%- for purpose in var('purposes') %},
    coalesce(c.consent_{{ purpose }}, false) as consent_{{ purpose }}
    {%- endfor %}
from people as p
left join behaviour as b on b.profile_id = p.profile_id
left join consents as c on c.profile_id = p.profile_id
