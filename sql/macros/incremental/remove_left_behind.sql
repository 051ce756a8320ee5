{#- dbt replaces only the days that a run has rows for. This removes from
    stg_events what is left on days that should have become empty: erased
    events, and copies of what turned out to have been received earlier.
    `sluis models` replaces empty days too, and does not run it. -#}
{% macro remove_left_behind() -%}
    {%- if is_incremental() -%}
    delete from {{ this }} as t
    where exists (
            select 1 from {{ this }} as e where e.event_id = t.event_id and e.received_at < t.received_at
        )
        or t.event_id in (
            select e.event_id
            from {{ this }} as e
            cross join {{ unnest('e.pseudonyms', 'carried') }}
            join {{ source('sluis', 'erasures') }} as x on x.pseudonym = carried
        )
    {%- endif -%}
{%- endmacro %}
