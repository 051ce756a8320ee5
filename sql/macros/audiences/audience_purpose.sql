{#- The purpose that an audience declares. -#}
{% macro audience_purpose(name) -%}
    {%- if not execute -%}{{ return('') }}{%- endif -%}
    {%- set node = graph.nodes['model.sluis.' ~ name] -%}
    {{ return(node['config']['meta']['audience']['purpose']) }}
{%- endmacro %}
