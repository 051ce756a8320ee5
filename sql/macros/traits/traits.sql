{#- Traits: what is known of a person, computed of their events. Each of these
    describes one, for the list in trait_list.sql:

    name      the column
    of        what of each event, in SQL, such as a column of profile_events,
              json_text('properties', '$.plan') or json_number('properties', '$.total')
    where     which events count, in SQL
    days      how many days back they count; 0 for ever. A window takes the event
              at its beginning, and not the one at its end
    type      number, text or time: what the values are
    at_most   the length of a list
    at_least  how often a value must occur to be called frequent -#}

{% macro trait_count(name, where='true', days=0) -%}
    {{ return({'name': name, 'kind': 'count', 'of': '1', 'where': where, 'days': days, 'type': 'number'}) }}
{%- endmacro %}

{% macro trait_sum(name, of, where='true', days=0) -%}
    {{ return({'name': name, 'kind': 'sum', 'of': of, 'where': where, 'days': days, 'type': 'number'}) }}
{%- endmacro %}

{% macro trait_average(name, of, where='true', days=0) -%}
    {{ return({'name': name, 'kind': 'average', 'of': of, 'where': where, 'days': days, 'type': 'number'}) }}
{%- endmacro %}

{% macro trait_min(name, of, where='true', days=0, type='number') -%}
    {{ return({'name': name, 'kind': 'min', 'of': of, 'where': where, 'days': days, 'type': type}) }}
{%- endmacro %}

{% macro trait_max(name, of, where='true', days=0, type='number') -%}
    {{ return({'name': name, 'kind': 'max', 'of': of, 'where': where, 'days': days, 'type': type}) }}
{%- endmacro %}

{#- The value of the earliest event that has one. -#}
{% macro trait_first(name, of, where='true', days=0, type='text') -%}
    {{ return({'name': name, 'kind': 'first', 'of': of, 'where': where, 'days': days, 'type': type}) }}
{%- endmacro %}

{#- The value of the latest event that has one. -#}
{% macro trait_last(name, of, where='true', days=0, type='text') -%}
    {{ return({'name': name, 'kind': 'last', 'of': of, 'where': where, 'days': days, 'type': type}) }}
{%- endmacro %}

{#- Of several sources that say different things, the one that is to be believed: the
    latest value from the first of the sources, by their ids, that has any; then from
    any other. -#}
{% macro trait_preferred(name, of, sources, where='true', days=0, type='text') -%}
    {{ return({'name': name, 'kind': 'preferred', 'of': of, 'where': where, 'days': days, 'type': type, 'sources': sources}) }}
{%- endmacro %}

{#- The value that most events have; of several, the first in the alphabet. -#}
{% macro trait_most_frequent(name, of, where='true', days=0, type='text', at_least=1) -%}
    {{ return({'name': name, 'kind': 'most_frequent', 'of': of, 'where': where, 'days': days, 'type': type, 'at_least': at_least}) }}
{%- endmacro %}

{#- The different values, in order, as an array of texts. -#}
{% macro trait_unique_list(name, of, where='true', days=0, at_most=100) -%}
    {{ return({'name': name, 'kind': 'unique_list', 'of': of, 'where': where, 'days': days, 'type': 'list', 'at_most': at_most}) }}
{%- endmacro %}

{% macro trait_unique_count(name, of, where='true', days=0) -%}
    {{ return({'name': name, 'kind': 'unique_count', 'of': of, 'where': where, 'days': days, 'type': 'number'}) }}
{%- endmacro %}

{#- The query for traits, of a relation of events with the column as_of, the
    moment that windows end at. Its rows are of the columns `keys`. All traits are
    computed in one pass. -#}
{% macro select_traits(traits, events, keys) -%}
select
    {{ keys }}
    {%- for trait in traits %},
    {{ trait_value(trait, 'times_' ~ loop.index) }} as {{ trait['name'] }}
    {%- endfor %}
from (
    select
        *
        {%- for trait in traits %}{% if trait['kind'] == 'most_frequent' %},
        count(*) over (partition by {{ keys }}, {{ trait_input(trait) }}) as times_{{ loop.index }}
        {%- endif %}{% endfor %}
    from {{ events }}
    where occurred_at < as_of
) as evidence
group by {{ keys }}
{%- endmacro %}

{#- What of an event counts for a trait; NULL if nothing does. -#}
{% macro trait_input(trait) -%}
case when {{ trait['where'] }}{% if trait['days'] %} and occurred_at >= {{ add_hours('as_of', '-24 * ' ~ trait['days']) }}{% endif %} then {{ trait['of'] }} end
{%- endmacro %}

{% macro trait_value(trait, times) -%}
{%- set kind = trait['kind'] -%}
{%- set input = trait_input(trait) -%}
{%- if kind == 'count' -%}count({{ input }})
{%- elif kind == 'sum' -%}coalesce(sum({{ input }}), 0)
{%- elif kind == 'average' -%}cast(cast(sum({{ input }}) as {{ dbt.type_float() }}) / nullif(count({{ input }}), 0) as {{ exact() }})
{%- elif kind == 'min' -%}min({{ input }})
{%- elif kind == 'max' -%}max({{ input }})
{%- elif kind == 'first' -%}{{ first_by(input, 'occurred_at', 'event_id') }}
{%- elif kind == 'last' -%}{{ last_by(input, 'occurred_at', 'event_id') }}
{%- elif kind == 'preferred' -%}coalesce({% for source in trait['sources'] %}{{ last_by("case when source_id = '" ~ source ~ "' then " ~ input ~ " end", 'occurred_at', 'event_id') }}, {% endfor %}{{ last_by(input, 'occurred_at', 'event_id') }})
{%- elif kind == 'members' -%}count(distinct case when {{ input }} = 1 then profile_id end) {% if trait['who'] == 'any' %}> 0{% elif trait['who'] == 'all' %}= count(distinct profile_id){% else %}= 0{% endif %}
{%- elif kind == 'most_frequent' -%}{{ first_by('case when ' ~ times ~ ' >= ' ~ trait['at_least'] ~ ' then ' ~ input ~ ' end', '-' ~ times, "coalesce(cast(" ~ trait['of'] ~ " as string), '')") }}
{%- elif kind == 'unique_list' -%}{{ distinct_list(input, trait['at_most']) }}
{%- elif kind == 'unique_count' -%}count(distinct {{ input }})
{%- else -%}{{ exceptions.raise_compiler_error('there is no kind of trait called ' ~ kind) }}
{%- endif -%}
{%- endmacro %}
