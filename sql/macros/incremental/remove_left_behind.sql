{#- dbt replaces only the days that a run has rows for. This removes from
    stg_events what is left on days that should have become empty: events that
    are gone from the landing table, since somebody was erased, and copies of
    what turned out to have been received earlier.
    `sluis models` replaces empty days too, and does not run it. -#}
{% macro remove_left_behind() -%}
    {%- if is_incremental() -%}
    delete from {{ this }} as t
    where not exists (
            select 1 from {{ source('sluis', 'events') }} as l
            where l.event_id = t.event_id and l.spool_id = t.spool_id and l.spool_offset = t.spool_offset
        )
        or exists (
            select 1
            from {{ this }} as e
            join {{ source('sluis', 'events') }} as l
                on l.event_id = e.event_id and l.spool_id = e.spool_id and l.spool_offset = e.spool_offset
            where e.event_id = t.event_id and e.received_at < t.received_at
        )
    {%- endif -%}
{%- endmacro %}
