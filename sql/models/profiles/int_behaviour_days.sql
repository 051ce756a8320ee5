{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=insert_overwrite(),
    partition_by=by_day('landed_on', 'date'),
    unique_key='landed_on',
    post_hook="{{ remove_emptied_days(behaviour_by_day()) }}"
) }}
{#- What is asked of each event, in this order. Other answers make all days anew. -#}
{%- set asked = behaviour_asked() -%}
{%- set definition = local_md5(asked | join('; ') ~ '; ' ~ var('time_zone')) -%}
{%- if is_incremental() -%}
{%- set days = changed_days(behaviour_by_day(), stale="is_later or definition <> '" ~ definition ~ "'") -%}
{{ config(partitions=days.partitions) }}
{%- endif -%}
-- What the events of a day say of behaviour, of those that were collected for
-- analytics, added up by set of identifiers: what is counted of people by day is
-- made of this, and reads no events. Whose the sets are, and whether they still
-- agree, is for whoever reads it. A run adds up anew the days that something
-- changed on.
-- depends_on: {{ ref('stg_identifier_days') }}
select
    cast(e.received_at as date) as landed_on,
    e.identifier_set,
    {{ local_date('e.occurred_at') }} as day,
    -- What is yet to come, as seen from the moment that windows end at.
    e.occurred_at >= {{ as_of() }} as is_later,
    '{{ definition }}' as definition,
    -- For each thing asked 1, if one of the events is such, or 0.
    concat({% for condition in asked %}coalesce(max(case when {{ condition }} then '1' else '0' end), '0'){% if not loop.last %}, {% endif %}{% endfor %}) as did,
    cast(count(*) as int64) as n_events,
    cast(count(case when e.type = 'page' then 1 end) as int64) as pages,
    cast(count(case when e.event = 'Live Chat Started' then 1 end) as int64) as chats,
    {{ last_by('e.page_path', 'e.occurred_at', 'e.event_id') }} as last_page_path,
    max(case when e.page_path is not null then e.occurred_at end) as last_page_at,
    {{ last_by('case when e.page_path is not null then e.event_id end', 'e.occurred_at', 'e.event_id') }} as last_page_event_id,
    {{ first_by('e.utm_source', 'e.occurred_at', 'e.event_id') }} as first_utm_source,
    min(case when e.utm_source is not null then e.occurred_at end) as first_utm_at,
    {{ first_by('case when e.utm_source is not null then e.event_id end', 'e.occurred_at', 'e.event_id') }} as first_utm_event_id,
    bit_xor({{ event_fingerprint('e') }}) as fingerprint
from {{ ref('stg_events') }} as e
where not e.is_bot and e.identifier_set <> '' and {{ array_contains('e.purposes', "'analytics'") }}
    {%- if is_incremental() %}
    and {{ days.read }}
    {%- endif %}
group by landed_on, identifier_set, day, is_later
