{#- A number of people that may be shown: rounded down to tens, and nothing if it is
    smaller than the var counts_min_cell. -#}
{% macro rounded_count(n) -%}
case when {{ n }} >= {{ var('counts_min_cell') }} then {{ n }} - mod({{ n }}, 10) end
{%- endmacro %}
