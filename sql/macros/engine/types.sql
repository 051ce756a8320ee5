{#- An instant: dbt's timestamp is a wall clock without a zone on DuckDB. -#}
{% macro duckdb__type_timestamp() -%}
    timestamptz
{%- endmacro %}
