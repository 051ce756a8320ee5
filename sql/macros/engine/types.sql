{#- dbt's float is of 32 bits on DuckDB, and would round averages to seven digits. -#}
{% macro duckdb__type_float() -%}
    double
{%- endmacro %}

{#- An instant: dbt's timestamp is a wall clock without a zone on DuckDB. -#}
{% macro duckdb__type_timestamp() -%}
    timestamptz
{%- endmacro %}
