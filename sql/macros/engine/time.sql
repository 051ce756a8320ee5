{#- The moment that windows of time end at: now, or the var as_of, which makes a
    build reproducible, as in --vars '{as_of: "2026-03-31 00:00:00"}', in UTC. -#}
{% macro as_of() -%}
    {%- if var('as_of') -%}{{ instant(var('as_of')) }}{%- else -%}{{ dbt.current_timestamp() }}{%- endif -%}
{%- endmacro %}

{#- A moment of UTC as a constant. -#}
{% macro instant(text) -%}
    {{ return(adapter.dispatch('instant')(text)) }}
{%- endmacro %}

{% macro default__instant(text) -%}
    timestamp '{{ text }}+00'
{%- endmacro %}

{% macro duckdb__instant(text) -%}
    timestamptz '{{ text }}+00'
{%- endmacro %}

{#- A timestamp that lies a number of hours after another, or before it. A day
    is 24 of them, whatever clocks are put forward. -#}
{% macro add_hours(at, hours) -%}
    {{ return(adapter.dispatch('add_hours')(at, hours)) }}
{%- endmacro %}

{% macro default__add_hours(at, hours) -%}
    timestamp_add({{ at }}, interval {{ hours }} hour)
{%- endmacro %}

{% macro duckdb__add_hours(at, hours) -%}
    ({{ at }} + to_hours({{ hours }}))
{%- endmacro %}

{#- A timestamp as microseconds since 1970: differences of these are exact, where
    those of the warehouses count borders or cut. -#}
{% macro micros(at) -%}
    {{ return(adapter.dispatch('micros')(at)) }}
{%- endmacro %}

{% macro default__micros(at) -%}
    unix_micros({{ at }})
{%- endmacro %}

{% macro duckdb__micros(at) -%}
    epoch_us({{ at }})
{%- endmacro %}

{#- The day of a timestamp where the business is, by the var time_zone. -#}
{% macro local_date(at) -%}
    {{ return(adapter.dispatch('local_date')(at)) }}
{%- endmacro %}

{% macro default__local_date(at) -%}
    date({{ at }}, '{{ var('time_zone') }}')
{%- endmacro %}

{% macro duckdb__local_date(at) -%}
    cast(timezone('{{ var('time_zone') }}', {{ at }}) as date)
{%- endmacro %}

{#- A query for the days from one to another, both in it. -#}
{% macro days_between(first, last) -%}
    {{ return(adapter.dispatch('days_between')(first, last)) }}
{%- endmacro %}

{% macro default__days_between(first, last) -%}
    select day from unnest(generate_date_array({{ first }}, {{ last }})) as day
{%- endmacro %}

{% macro duckdb__days_between(first, last) -%}
    select cast(day as date) as day from generate_series({{ first }}, {{ last }}, interval 1 day) as series(day)
{%- endmacro %}

{#- The first day of a date's month, and of its week, which is a Monday. -#}
{% macro month_of(day) -%}
    {{ return(adapter.dispatch('month_of')(day)) }}
{%- endmacro %}

{% macro default__month_of(day) -%}
    cast(date_trunc({{ day }}, month) as date)
{%- endmacro %}

{% macro duckdb__month_of(day) -%}
    cast(date_trunc('month', {{ day }}) as date)
{%- endmacro %}

{% macro week_of(day) -%}
    {{ return(adapter.dispatch('week_of')(day)) }}
{%- endmacro %}

{% macro default__week_of(day) -%}
    date_sub({{ day }}, interval mod(date_diff({{ day }}, date '1970-01-05', day), 7) day)
{%- endmacro %}

{% macro duckdb__week_of(day) -%}
    cast(date_trunc('week', {{ day }}) as date)
{%- endmacro %}

{#- A date as the number of days since 1970. -#}
{% macro day_number(day) -%}
    {{ return(adapter.dispatch('day_number')(day)) }}
{%- endmacro %}

{% macro default__day_number(day) -%}
    unix_date({{ day }})
{%- endmacro %}

{% macro duckdb__day_number(day) -%}
    date_diff('day', date '1970-01-01', {{ day }})
{%- endmacro %}
