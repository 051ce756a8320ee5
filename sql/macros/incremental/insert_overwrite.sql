{#- The strategy that replaces the partitions its rows fall into, by the name it
    goes by. dbt-duckdb has none; there, delete+insert does the same if the
    model's unique_key is the day. -#}
{% macro insert_overwrite() -%}
    {{ return(adapter.dispatch('insert_overwrite')()) }}
{%- endmacro %}

{% macro default__insert_overwrite() -%}
    {{ return('insert_overwrite') }}
{%- endmacro %}

{% macro duckdb__insert_overwrite() -%}
    {#- `sluis models` has it everywhere, and no dbt_version. -#}
    {%- if dbt_version is defined -%}{{ return('delete+insert') }}{%- endif -%}
    {{ return('insert_overwrite') }}
{%- endmacro %}

{#- partition_by for a table that is cut by the day of a timestamp, or by a date.
    dbt-duckdb has another use for that config. -#}
{% macro by_day(field, data_type="timestamp") -%}
    {{ return(adapter.dispatch('by_day')(field, data_type)) }}
{%- endmacro %}

{% macro default__by_day(field, data_type) -%}
    {{ return({'field': field, 'data_type': data_type, 'granularity': 'day'}) }}
{%- endmacro %}

{% macro duckdb__by_day(field, data_type) -%}
    {%- if dbt_version is defined -%}{{ return(none) }}{%- endif -%}
    {{ return({'field': field, 'data_type': data_type, 'granularity': 'day'}) }}
{%- endmacro %}

{#- The strategy that replaces the rows with the same unique_key, by the name it
    goes by. -#}
{% macro replace_rows() -%}
    {{ return(adapter.dispatch('replace_rows')()) }}
{%- endmacro %}

{% macro default__replace_rows() -%}
    {{ return('merge') }}
{%- endmacro %}

{% macro duckdb__replace_rows() -%}
    {{ return('delete+insert') }}
{%- endmacro %}

{#- The strategy that replaces all rows with a unique_key that is among the new
    rows, however many they are: of those that have nothing in the column of
    remove_husks, only the key counts. BigQuery's adapter for dbt has none. -#}
{% macro replace_groups() -%}
    {{ return(adapter.dispatch('replace_groups')()) }}
{%- endmacro %}

{% macro default__replace_groups() -%}
    {{ return('delete+insert') }}
{%- endmacro %}

{#- A new row of a key that has no others any more takes its old ones away. dbt
    keeps that row until this removes it; `sluis models` does not insert it. -#}
{% macro remove_husks(column) -%}
    {%- if is_incremental() -%}
    delete from {{ this }} where {{ column }} is null
    {%- endif -%}
{%- endmacro %}
