{#- What a run of stg_events has to read and to write, so that it ends up with
    the rows of a full refresh. One query of few columns finds it:

    changed     the days that rows landed in since, or of which rows are gone
                that had landed: people were erased. They are built anew
    shared      the other days that have copies of events of the changed days.
                Of them, these events are built anew, and the rest stays
    read        these days, and of each spool what had landed by now. A row that
                lands while the run goes on is for the next one: it may have
                copies on days that this one does not look at
    partitions  these days, to be replaced

    The first three are conditions on columns of the landing table. All days are
    constants, since BigQuery reads no other partitions only then.

    A spool lands in order. So what is new is what lies behind the last row of
    its spool that came through; where later ones were dropped, because they were
    copies, they are looked at again, which changes nothing. -#}
{% macro affected_days() -%}
    {%- set query -%}
        with seen as (
            select spool_id, max(spool_offset) as spool_offset from {{ this }} group by spool_id
        ),
        landed as (
            select event_id, cast(received_at as date) as landed_on, spool_id, spool_offset
            from {{ source('sluis', 'events') }}
            where event_id is not null
        ),
        changed as (
            select l.landed_on
            from landed as l
            left join seen as s on s.spool_id = l.spool_id
            where s.spool_id is null or l.spool_offset > s.spool_offset
            union distinct
            select cast(t.received_at as date) as landed_on
            from {{ this }} as t
            left join landed as l
                on l.event_id = t.event_id and l.spool_id = t.spool_id and l.spool_offset = t.spool_offset
            where l.event_id is null
        ),
        touched as (
            select distinct l.event_id from landed as l join changed as c on c.landed_on = l.landed_on
        ),
        shared as (
            select distinct l.landed_on
            from landed as l
            join touched as e on e.event_id = l.event_id
            left join changed as c on c.landed_on = l.landed_on
            where c.landed_on is null
        ),
        reached as (
            select l.spool_id, max(l.spool_offset) as spool_offset
            from landed as l
            join (select landed_on from changed union all select landed_on from shared) as a on a.landed_on = l.landed_on
            group by l.spool_id
        )
        select
            (select string_agg(concat(cast(landed_on as string), ' ', cast(landed_on + 1 as string)), ',' order by landed_on) from changed) as changed,
            (select string_agg(concat(cast(landed_on as string), ' ', cast(landed_on + 1 as string)), ',' order by landed_on) from shared) as shared,
            (select string_agg(concat(spool_id, ' ', cast(spool_offset as string)), ',' order by spool_id) from reached) as reached
    {%- endset -%}
    {%- set found = run_query(query).rows[0] -%}
    {%- if not found[0] -%}
        {{ return({'changed': 'false', 'shared': '', 'read': 'false', 'partitions': []}) }}
    {%- endif -%}
    {%- set changed = days_condition(found[0]) -%}
    {%- set shared = '' -%}
    {%- set days = found[0] -%}
    {%- if found[1] -%}
        {%- set shared = days_condition(found[1]) -%}
        {%- set days = days ~ ',' ~ found[1] -%}
    {%- endif -%}
    {#- If these days have no rows any more, there is nothing to read. -#}
    {%- set read = 'false' -%}
    {%- if found[2] -%}
        {%- set read = days_condition(days) ~ ' and ' ~ landed_condition(found[2]) -%}
    {%- endif -%}
    {{ return({'changed': changed, 'shared': shared, 'read': read, 'partitions': [days_list(days)]}) }}
{%- endmacro %}

{#- That received_at is on one of the days, each given as it and the next one. What
    lies before the first and after the last is said on its own: DuckDB passes over
    files by that, and not by a list. -#}
{% macro days_condition(days) -%}
    {%- set pairs = days.split(',') | sort -%}
    {%- if pairs | length > 1 -%}
    received_at >= {{ midnight(pairs[0].split(' ')[0]) }} and received_at < {{ midnight(pairs[-1].split(' ')[1]) }} and {% endif -%}
    ({% for pair in pairs %}
        {%- if not loop.first %} or {% endif -%}
        received_at >= {{ midnight(pair.split(' ')[0]) }} and received_at < {{ midnight(pair.split(' ')[1]) }}
    {%- endfor %})
{%- endmacro %}

{#- That a row had landed, by the last row of each spool. -#}
{% macro landed_condition(spools) -%}
    case spool_id
    {%- for spool in spools.split(',') %} when '{{ spool.split(' ')[0] }}' then spool_offset <= {{ spool.split(' ')[1] }}{% endfor %} else false end
{%- endmacro %}

{% macro days_list(days) -%}
    {% for pair in days.split(',') %}{% if not loop.first %}, {% endif %}{{ midnight(pair.split(' ')[0]) }}{% endfor %}
{%- endmacro %}

{#- The instant at which a day begins, as a constant. -#}
{% macro midnight(day) -%}
    {{ return(adapter.dispatch('midnight')(day)) }}
{%- endmacro %}

{% macro default__midnight(day) -%}
    timestamp '{{ day }} 00:00:00+00'
{%- endmacro %}

{% macro duckdb__midnight(day) -%}
    timestamptz '{{ day }} 00:00:00+00'
{%- endmacro %}
