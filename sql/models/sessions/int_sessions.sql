{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='node_key',
    post_hook="{{ remove_husks('session_id') }}"
) }}
{#- Half an hour without an event ends a session, and so do 24 hours. -#}
{%- set pause = 30 * 60 * 1000000 -%}
{%- set arrival = ['utm_source', 'utm_medium', 'utm_campaign', 'click_id_kind', 'referrer_host'] -%}
{%- set longest = 24 * 3600 * 1000000 -%}
-- Visits by device, of people who agree to analytics. A visit is told by its
-- events alone, in the order in which they happened: it does not matter when they
-- arrive, and midnight is no border. It is named after its first event, so that
-- one that arrives late renames no other visit.
-- A run makes the visits of those devices anew of which the events that may be
-- used are others than the visits are made of, for whatever reason: some came,
-- late or not, some are gone, or people changed their mind.
-- depends_on: {{ ref('stg_identifier_days') }}
with devices as (
    select i.identifier_set, min(i.node_key) as node_key
    from {{ ref('stg_identifiers') }} as i
    join {{ ref('identifier_kinds') }} as k on k.kind = i.id_type
    where k.is_device
    group by i.identifier_set
),

agreeing as (
    select d.identifier_set, d.node_key
    from devices as d
    join {{ ref('identity_map') }} as m on m.node_key = d.node_key
    join {{ ref('consent_profile') }} as c on c.profile_id = m.profile_id and c.purpose = 'analytics' and c.allowed
),
{%- if is_incremental() %}

usable as (
    select
        a.node_key,
        sum(d.n_events) as n_events,
        bit_xor(d.fingerprint) as fingerprint,
        -- What is yet to come, as seen from the moment that windows end at, is in no visit.
        max(case when d.last_occurred_at < {{ as_of() }} then 0 else 1 end) as has_later
    from {{ ref('stg_identifier_days') }} as d
    join agreeing as a on a.identifier_set = d.identifier_set
    where not d.is_bot and {{ array_contains("split(d.purposes, ',')", "'analytics'") }}
    group by a.node_key
),

made_of as (
    select node_key, sum(n_events) as n_events, bit_xor(fingerprint) as fingerprint from {{ this }} group by node_key
),

changed as (
    select coalesce(u.node_key, m.node_key) as node_key
    from usable as u
    full outer join made_of as m on m.node_key = u.node_key
    where u.n_events is distinct from m.n_events or u.fingerprint is distinct from m.fingerprint or u.has_later = 1
),
{%- endif %}

wanted as (
    select a.identifier_set, a.node_key
    from agreeing as a
    {%- if is_incremental() %}
    join changed as c on c.node_key = a.node_key
    {%- endif %}
),

visible as (
    select
        w.node_key,
        e.event_id,
        e.type,
        e.occurred_at,
        {{ micros('e.occurred_at') }} as at_micros,
        e.page_path,
        lower(e.utm_source) as utm_source,
        lower(e.utm_medium) as utm_medium,
        e.utm_campaign,
        e.click_id_kind,
        -- A link from one page of ours to another brings nobody.
        case when lower(e.referrer_host) is distinct from {{ url_host('e.page_url') }} then lower(e.referrer_host) end as referrer_host,
        {{ event_fingerprint('e') }} as fingerprint
    from {{ ref('stg_events') }} as e
    join wanted as w on w.identifier_set = e.identifier_set
    where {{ array_contains('e.purposes', "'analytics'") }} and not e.is_bot and e.occurred_at < {{ as_of() }}
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
        max(case when p.before_micros is null or p.at_micros - p.before_micros > {{ pause }} then p.at_micros end)
            over (partition by p.node_key order by p.place rows between unbounded preceding and current row) as begun_micros
    from placed as p
),

grouped as (
    select
        node_key,
        {{ lowest_by('event_id', 'place') }} as first_event_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        cast(count(*) as int64) as n_events,
        cast(count(case when type = 'page' then 1 end) as int64) as page_views,
        {{ lowest_by('page_path', 'case when page_path is not null then place end') }} as entry_page,
        {{ highest_by('page_path', 'case when page_path is not null then place end') }} as exit_page,
        {%- for column in arrival %}
        nullif({{ lowest_by("coalesce(" ~ column ~ ", '')", 'arrived') }}, '') as {{ column }},
        {%- endfor %}
        bit_xor(fingerprint) as fingerprint
    from begun
    group by node_key, begun_micros, cast(floor((at_micros - begun_micros) / {{ longest }}) as int64)
)

select
    -- A device that has no visit any more has a row of nothing else, by which its old ones go.
    case when g.node_key is not null then concat('se_', substr({{ sha256_hex("concat(coalesce(g.node_key, ''), ' ', coalesce(g.first_event_id, ''))") }}, 1, 24)) end as session_id,
    {% if is_incremental() %}c{% else %}g{% endif %}.node_key,
    g.started_at,
    g.ended_at,
    g.n_events,
    g.page_views,
    g.entry_page,
    g.exit_page,
    {%- for column in arrival %}
    g.{{ column }},
    {%- endfor %}
    g.fingerprint
from {% if is_incremental() %}changed as c
left join grouped as g on g.node_key = c.node_key{% else %}grouped as g{% endif %}
