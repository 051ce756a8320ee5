{#- The metrics of the var metrics, checked: each has what it needs, one is the
    North Star, and what it is made of is among them. -#}
{% macro metric_list() -%}
    {%- set found = namespace(stars=0, names=[]) -%}
    {%- for metric in var('metrics') -%}
        {%- for key in ['name', 'description', 'from', 'day', 'measure'] -%}
            {%- if not metric.get(key) -%}{{ exceptions.raise_compiler_error('a metric of the var metrics needs ' ~ key) }}{%- endif -%}
        {%- endfor -%}
        {%- if metric.get('north_star') -%}{%- set found.stars = found.stars + 1 -%}{%- endif -%}
        {%- if metric['name'] in found.names -%}{{ exceptions.raise_compiler_error('there are two metrics called ' ~ metric['name']) }}{%- endif -%}
        {%- set found.names = found.names + [metric['name']] -%}
    {%- endfor -%}
    {%- if found.stars != 1 -%}{{ exceptions.raise_compiler_error('one metric of the var metrics must be the north_star') }}{%- endif -%}
    {%- for metric in var('metrics') -%}
        {%- for input in metric.get('inputs', []) -%}
            {%- if input not in found.names -%}{{ exceptions.raise_compiler_error('the metric ' ~ metric['name'] ~ ' has the input ' ~ input ~ ', which is no metric') }}{%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(var('metrics')) }}
{%- endmacro %}
