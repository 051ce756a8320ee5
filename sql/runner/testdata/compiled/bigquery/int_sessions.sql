-- Visits by device, of people who agree to analytics. A visit is told by its
-- events alone, in the order in which they happened: it does not matter when they
-- arrive, and midnight is no border. It is named after its first event, so that
-- one that arrives late renames no other visit.
-- A run makes the visits of those devices anew of which the events that may be
-- used are others than the visits are made of, for whatever reason: some came,
-- late or not, some are gone, or people changed their mind.
-- depends_on: sluis_models.stg_identifier_days
with devices as (
    select i.identifier_set, min(i.node_key) as node_key
    from sluis_models.stg_identifiers as i
    join sluis_models.identifier_kinds as k on k.kind = i.id_type
    where k.is_device
    group by i.identifier_set
),

agreeing as (
    select d.identifier_set, d.node_key
    from devices as d
    join sluis_models.identity_map as m on m.node_key = d.node_key
    join sluis_models.consent_profile as c on c.profile_id = m.profile_id and c.purpose = 'analytics' and c.allowed
),

wanted as (
    select a.identifier_set, a.node_key
    from agreeing as a
),

visible as (
    select
        w.node_key,
        e.event_id,
        e.type,
        e.occurred_at,
        unix_micros(e.occurred_at) as at_micros,
        e.page_path,
        lower(e.utm_source) as utm_source,
        lower(e.utm_medium) as utm_medium,
        e.utm_campaign,
        e.click_id_kind,
        -- A link from one page of ours to another brings nobody.
        case when lower(e.referrer_host) is distinct from lower(split(split(split(e.page_url, '://')[safe_offset(1)], '/')[safe_offset(0)], ':')[safe_offset(0)]) then lower(e.referrer_host) end as referrer_host,
        farm_fingerprint(concat(cast(e.event_id as string), ' ', cast(coalesce(e.spool_id, '') as string), ' ', cast(coalesce(e.spool_offset, 0) as string))) as fingerprint
    from sluis_models.stg_events as e
    join wanted as w on w.identifier_set = e.identifier_set
    where coalesce('analytics' in unnest(e.purposes), false) and not e.is_bot and e.occurred_at < current_timestamp()
),

placed as (
    select
        v.*,
        lag(v.at_micros) over (partition by v.node_key order by v.occurred_at, v.event_id) as before_micros,
        row_number() over (partition by v.node_key order by v.occurred_at, v.event_id) as place
    from visible as v
),

begun as (
    select
        p.*,
        -- Its place if it says where the visitor came from.
        case when utm_source is not null or utm_medium is not null or click_id_kind is not null or referrer_host is not null then place end as arrived,
        -- When the last one began that was not within half an hour of another.
        max(case when p.before_micros is null or p.at_micros - p.before_micros > 1800000000 then p.at_micros end)
            over (partition by p.node_key order by p.place rows between unbounded preceding and current row) as begun_micros
    from placed as p
),

grouped as (
    select
        node_key,
        case when count(place) > 0 then any_value(event_id having min place) end as first_event_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        cast(count(*) as int64) as n_events,
        cast(count(case when type = 'page' then 1 end) as int64) as page_views,
        case when count(case when page_path is not null then place end) > 0 then any_value(page_path having min case when page_path is not null then place end) end as entry_page,
        case when count(case when page_path is not null then place end) > 0 then any_value(page_path having max case when page_path is not null then place end) end as exit_page,
        nullif(case when count(arrived) > 0 then any_value(coalesce(utm_source, '') having min arrived) end, '') as utm_source,
        nullif(case when count(arrived) > 0 then any_value(coalesce(utm_medium, '') having min arrived) end, '') as utm_medium,
        nullif(case when count(arrived) > 0 then any_value(coalesce(utm_campaign, '') having min arrived) end, '') as utm_campaign,
        nullif(case when count(arrived) > 0 then any_value(coalesce(click_id_kind, '') having min arrived) end, '') as click_id_kind,
        nullif(case when count(arrived) > 0 then any_value(coalesce(referrer_host, '') having min arrived) end, '') as referrer_host,
        bit_xor(fingerprint) as fingerprint
    from begun
    group by node_key, begun_micros, cast(floor((at_micros - begun_micros) / 86400000000) as int64)
)

select
    -- A device that has no visit any more has a row of nothing else, by which its old ones go.
    case when g.node_key is not null then concat('se_', substr(to_hex(sha256(concat(coalesce(g.node_key, ''), ' ', coalesce(g.first_event_id, '')))), 1, 24)) end as session_id,
    g.node_key,
    g.started_at,
    g.ended_at,
    g.n_events,
    g.page_views,
    g.entry_page,
    g.exit_page,
    g.utm_source,
    g.utm_medium,
    g.utm_campaign,
    g.click_id_kind,
    g.referrer_host,
    g.fingerprint
from grouped as g
