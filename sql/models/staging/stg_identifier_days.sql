{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=insert_overwrite(),
    partition_by=by_day('landed_on', 'date'),
    unique_key='landed_on',
    post_hook="{{ remove_emptied_days(events_by_day()) }}"
) }}
{%- if is_incremental() -%}
{%- set days = changed_days(events_by_day()) -%}
{{ config(partitions=days.partitions) }}
{%- endif -%}
-- What the events of a day say of identifiers and of consent, added up: a visit is
-- a row or two here. Whatever is said of people as a whole is made of this, and
-- reads no events. A run adds up anew the days that something changed on.
select
    cast(e.received_at as date) as landed_on,
    e.identifier_set,
    e.is_bot,
    coalesce(e.type, '') = 'alias' as is_alias,
    coalesce(array_to_string(e.purposes, ','), '') as purposes,
    coalesce(array_to_string(e.denied, ','), '') as denied,
    e.decision_id,
    e.policy_version,
    cast(count(*) as int64) as n_events,
    min(e.occurred_at) as first_occurred_at,
    max(e.occurred_at) as last_occurred_at,
    max(e.received_at) as last_received_at,
    bit_xor({{ event_fingerprint('e') }}) as fingerprint
from {{ ref('stg_events') }} as e
{%- if is_incremental() %}
where {{ days.read }}
{%- endif %}
group by landed_on, identifier_set, is_bot, is_alias, purposes, denied, decision_id, policy_version
