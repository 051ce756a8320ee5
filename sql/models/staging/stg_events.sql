{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=insert_overwrite(),
    partition_by=by_day('received_at'),
    cluster_by=['source_id', 'type', 'event'],
    unique_key='cast(received_at as date)',
    post_hook="{{ remove_left_behind() }}"
) }}
{#- Once, since two queries below must have them in one order. -#}
{%- set columns = [
    'event_id', 'source_id', 'type', 'event', 'occurred_at', 'received_at', 'anonymous_id', 'user_id',
    'group_id', 'identifiers', 'purposes', 'denied', 'decision_id', 'policy_version', 'region', 'page_url',
    'page_path', 'page_title', 'referrer_host', 'utm_source', 'utm_medium', 'utm_campaign', 'utm_term',
    'utm_content', 'click_id_kind', 'device_class', 'is_bot', 'properties', 'traits', 'plan_version',
    'pseudonyms', 'identifier_set', 'spool_id', 'spool_offset'
] -%}
{%- if is_incremental() -%}
{%- set days = affected_days() -%}
{{ config(partitions=days.partitions) }}
{%- endif -%}
-- Exactly one row per event: the first one received. What was erased is gone from
-- the landing table, with all copies of it. A run builds the days anew that
-- something changed on.
with landed {{ as_read_again() }} (
    select * from {{ source('sluis', 'events') }}
    where event_id is not null
        {%- if is_incremental() %}
        and {{ days.read }}
        {%- endif %}
),

-- Few events have copies, and only these are compared with each other.
copied as (
    select event_id from landed group by event_id having count(*) > 1
),

copies as (
    select l.* from landed as l join copied as c on c.event_id = l.event_id
),

carried as (
    select e.event_id, identifier.pseudonym
    from copies as e
    cross join {{ unnest('e.identifiers', 'identifier') }}
    union distinct
    select event_id, anonymous_id as pseudonym from copies
    union distinct
    select event_id, user_id as pseudonym from copies
),

pseudonyms as (
    select event_id, {{ ordered_array('pseudonym') }} as pseudonyms
    from carried
    where pseudonym is not null
    group by event_id
),

received as (
    select l.*, {{ pseudonyms_of('l.identifiers', 'l.anonymous_id', 'l.user_id') }} as pseudonyms
    from landed as l
    left join copied as c on c.event_id = l.event_id
    where c.event_id is null
    union all
    select e.*, p.pseudonyms
    from copies as e
    left join pseudonyms as p on p.event_id = e.event_id
    where true
    qualify row_number() over (partition by e.event_id order by e.received_at, e.spool_id, e.spool_offset) = 1
),

built as (
    select
        r.* replace (coalesce(r.occurred_at, r.received_at) as occurred_at, coalesce(r.is_bot, false) as is_bot),
        {{ identifier_set('r.identifiers') }} as identifier_set
    from received as r
)

select {{ columns | join(', ') }}
from built
{%- if is_incremental() %}
where event_id in (select event_id from landed where {{ days.changed }})
{%- if days.shared %}
union all
select {{ columns | join(', ') }}
from {{ this }}
where {{ days.shared }} and event_id not in (select event_id from landed where {{ days.changed }})
{%- endif %}
{%- endif %}
