{#- What the two warehouses write differently. Models use these, and otherwise
    only SQL that both understand. -#}

{#- FROM item that has one row per element of an array, in the column `column`. -#}
{% macro unnest(array, column) -%}
    {{ return(adapter.dispatch('unnest')(array, column)) }}
{%- endmacro %}

{% macro default__unnest(array, column) -%}
    unnest({{ array }}) as {{ column }}
{%- endmacro %}

{% macro duckdb__unnest(array, column) -%}
    unnest({{ array }}) as {{ column }}_list({{ column }})
{%- endmacro %}

{#- Whether an array has an element; false if there is no array. -#}
{% macro array_contains(array, element) -%}
    {{ return(adapter.dispatch('array_contains')(array, element)) }}
{%- endmacro %}

{% macro default__array_contains(array, element) -%}
    coalesce({{ element }} in unnest({{ array }}), false)
{%- endmacro %}

{% macro duckdb__array_contains(array, element) -%}
    coalesce(list_contains({{ array }}, {{ element }}), false)
{%- endmacro %}

{#- A value inside JSON as text; NULL if there is none, or if it is an object or a
    list. Path is like '$.plan'. -#}
{% macro json_text(json, path) -%}
    {{ return(adapter.dispatch('json_text')(json, path)) }}
{%- endmacro %}

{% macro default__json_text(json, path) -%}
    json_value({{ json }}, '{{ path }}')
{%- endmacro %}

{% macro duckdb__json_text(json, path) -%}
    case when json_type({{ json }}, '{{ path }}') not in ('OBJECT', 'ARRAY') then json_extract_string({{ json }}, '{{ path }}') end
{%- endmacro %}

{#- SHA-256 of a text, in hexadecimal. Unlike an engine's own hash it is the
    same everywhere and for ever. -#}
{% macro sha256_hex(text) -%}
    {{ return(adapter.dispatch('sha256_hex')(text)) }}
{%- endmacro %}

{% macro default__sha256_hex(text) -%}
    to_hex(sha256({{ text }}))
{%- endmacro %}

{% macro duckdb__sha256_hex(text) -%}
    sha256({{ text }})
{%- endmacro %}

{#- An array of a group's values, in order, without NULL. -#}
{% macro ordered_array(value) -%}
    {{ return(adapter.dispatch('ordered_array')(value)) }}
{%- endmacro %}

{% macro default__ordered_array(value) -%}
    array_agg({{ value }} ignore nulls order by {{ value }})
{%- endmacro %}

{% macro duckdb__ordered_array(value) -%}
    array_agg({{ value }} order by {{ value }}) filter (where {{ value }} is not null)
{%- endmacro %}

{#- The instant some hours before another. -#}
{% macro hours_before(timestamp, hours) -%}
    {{ return(adapter.dispatch('hours_before')(timestamp, hours)) }}
{%- endmacro %}

{% macro default__hours_before(timestamp, hours) -%}
    timestamp_sub({{ timestamp }}, interval {{ hours }} hour)
{%- endmacro %}

{% macro duckdb__hours_before(timestamp, hours) -%}
    ({{ timestamp }} - interval {{ hours }} hour)
{%- endmacro %}
