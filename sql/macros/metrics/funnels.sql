{#- The funnels of the var funnels, checked: each has a name, a number of hours and
    at least two steps, of which each has a name and a condition. -#}
{% macro funnel_list() -%}
    {%- set found = namespace(names=[]) -%}
    {%- for funnel in var('funnels') -%}
        {%- if not funnel.get('name') or not funnel.get('within_hours') -%}{{ exceptions.raise_compiler_error('a funnel of the var funnels needs name and within_hours') }}{%- endif -%}
        {%- if funnel['name'] in found.names -%}{{ exceptions.raise_compiler_error('there are two funnels called ' ~ funnel['name']) }}{%- endif -%}
        {%- set found.names = found.names + [funnel['name']] -%}
        {%- if funnel.get('steps', []) | length < 2 -%}{{ exceptions.raise_compiler_error('the funnel ' ~ funnel['name'] ~ ' needs two steps or more') }}{%- endif -%}
        {%- for step in funnel['steps'] -%}
            {%- if not step.get('name') or not step.get('where') -%}{{ exceptions.raise_compiler_error('each step of the funnel ' ~ funnel['name'] ~ ' needs name and where') }}{%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if not found.names -%}{{ exceptions.raise_compiler_error('the var funnels needs a funnel: without one, remove funnel_daily') }}{%- endif -%}
    {{ return(var('funnels')) }}
{%- endmacro %}
