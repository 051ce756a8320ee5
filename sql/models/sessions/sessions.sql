{#- Half an hour without an event ends a session, and so do 24 hours. -#}
{%- set pause = 30 * 60 * 1000000 -%}
{%- set longest = 24 * 3600 * 1000000 -%}
-- Visits by device, of people who agree to analytics. A visit is told by its
-- events alone, in the order in which they happened: it does not matter when they
-- arrive, and midnight is no border. It is named after its first event, so that
-- one that arrives late renames no other visit.
with devices as (
    select i.identifier_set, min(i.node_key) as node_key
    from {{ ref('stg_identifiers') }} as i
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where k.is_device
    group by i.identifier_set
),

visible as (
    select
        d.node_key,
        e.event_id,
        e.type,
        e.occurred_at,
        e.page_path,
        lower(e.utm_source) as utm_source,
        lower(e.utm_medium) as utm_medium,
        e.utm_campaign,
        e.click_id_kind,
        -- A link from one page of ours to another brings nobody.
        case when lower(e.referrer_host) is distinct from {{ url_host('e.page_url') }} then lower(e.referrer_host) end as referrer_host
    from {{ ref('stg_events') }} as e
    join devices as d on d.identifier_set = e.identifier_set
    join {{ ref('identity_map') }} as m on m.node_key = d.node_key
    join {{ ref('consent_profile') }} as c on c.profile_id = m.profile_id and c.purpose = 'analytics' and c.allowed
    where {{ array_contains('e.purposes', "'analytics'") }} and not e.is_bot and e.occurred_at < {{ as_of() }}
),

timed as (
    select
        v.*,
        {{ micros('v.occurred_at') }} as at_micros,
        lag({{ micros('v.occurred_at') }}) over (partition by v.node_key order by v.occurred_at, v.event_id) as before_micros
    from visible as v
),

counted as (
    select
        t.*,
        sum(case when t.before_micros is null or t.at_micros - t.before_micros > {{ pause }} then 1 else 0 end)
            over (partition by t.node_key order by t.occurred_at, t.event_id rows between unbounded preceding and current row) as run
    from timed as t
),

measured as (
    select c.*, cast(floor((c.at_micros - min(c.at_micros) over (partition by c.node_key, c.run)) / {{ longest }}) as int64) as part
    from counted as c
),

ranked as (
    select
        m.*,
        row_number() over (
            partition by m.node_key, m.run, m.part
            order by
                case when m.utm_source is not null or m.utm_medium is not null or m.click_id_kind is not null or m.referrer_host is not null then 0 else 1 end,
                m.occurred_at, m.event_id
        ) as arrival
    from measured as m
),

grouped as (
    select
        node_key,
        {{ first_by('event_id', 'occurred_at', 'event_id') }} as first_event_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        count(*) as n_events,
        count(case when type = 'page' then 1 end) as page_views,
        {{ first_by('page_path', 'occurred_at', 'event_id') }} as entry_page,
        {{ last_by('page_path', 'occurred_at', 'event_id') }} as exit_page,
        max(case when arrival = 1 then utm_source end) as utm_source,
        max(case when arrival = 1 then utm_medium end) as utm_medium,
        max(case when arrival = 1 then utm_campaign end) as utm_campaign,
        max(case when arrival = 1 then click_id_kind end) as click_id_kind,
        max(case when arrival = 1 then referrer_host end) as referrer_host
    from ranked
    group by node_key, run, part
)

select
    concat('se_', substr({{ sha256_hex("concat(node_key, ' ', coalesce(first_event_id, ''))") }}, 1, 24)) as session_id,
    node_key,
    started_at,
    ended_at,
    {{ local_date('started_at') }} as start_date,
    cast(n_events as int64) as n_events,
    cast(page_views as int64) as page_views,
    entry_page,
    exit_page,
    {{ channel() | indent(4) }} as channel,
    utm_source,
    utm_medium,
    utm_campaign,
    click_id_kind,
    referrer_host
from grouped
