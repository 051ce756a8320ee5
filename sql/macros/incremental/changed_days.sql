{#- The days of stg_events that a model adds up, and that are not in it as they are
    now: rows came or went since. It compares what is there with what is there,
    and so nothing can be out of step: neither a run that failed between the two
    nor one of either alone.

    events  a query for what the model should be made of: landed_on, the number of
            events n_events, and their fingerprint, or NULL if the day is to be
            built in any case
    stale   a condition on rows of the model that are to be built anew

    The model has landed_on, n_events and fingerprint, too, in one row a day or
    more. Returns a condition on received_at of stg_events, and the list for
    config.partitions. -#}
{% macro changed_days(events, stale='false') -%}
    {%- set query -%}
        with events as (
            {{ events }}
        ),
        added_up as (
            select
                landed_on,
                case when max(case when {{ stale }} then 1 else 0 end) = 0 then sum(n_events) end as n_events,
                bit_xor(fingerprint) as fingerprint
            from {{ this }}
            group by landed_on
        ),
        changed as (
            select coalesce(e.landed_on, a.landed_on) as landed_on
            from events as e
            full outer join added_up as a on a.landed_on = e.landed_on
            where e.n_events is distinct from a.n_events or e.fingerprint is distinct from a.fingerprint
        )
        select string_agg(concat(cast(landed_on as string), ' ', cast(landed_on + 1 as string)), ',' order by landed_on) from changed
    {%- endset -%}
    {%- set found = run_query(query).rows[0][0] -%}
    {%- if not found -%}{{ return({'read': 'false', 'partitions': []}) }}{%- endif -%}
    {{ return({'read': days_condition(found), 'partitions': [dates_list(found)]}) }}
{%- endmacro %}

{#- The events of stg_events by day, for that. -#}
{% macro events_by_day() -%}
select cast(e.received_at as date) as landed_on, count(*) as n_events, bit_xor({{ event_fingerprint('e') }}) as fingerprint
from {{ ref('stg_events') }} as e
group by cast(e.received_at as date)
{%- endmacro %}

{% macro dates_list(days) -%}
    {% for pair in days.split(',') %}{% if not loop.first %}, {% endif %}date '{{ pair.split(' ')[0] }}'{% endfor %}
{%- endmacro %}

{#- The fingerprint of an event as it is in stg_events: whatever it says came with
    the row that it was taken of. -#}
{% macro event_fingerprint(e) -%}
    {{ fingerprint([e ~ '.event_id', "coalesce(" ~ e ~ ".spool_id, '')", 'coalesce(' ~ e ~ '.spool_offset, 0)']) }}
{%- endmacro %}

{#- dbt replaces only the days that a run has rows for. This removes days that
    should have become empty, by the query for what the model should be made of.
    `sluis models` replaces empty days too, and does not run it. -#}
{% macro remove_emptied_days(events) -%}
    {%- if is_incremental() -%}
    delete from {{ this }} where landed_on not in (select landed_on from ({{ events }}) as d)
    {%- endif -%}
{%- endmacro %}
