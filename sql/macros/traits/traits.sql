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

{#- A trait that is the moment after which traits change without new events: when the
    first of the events that count for one with a window leaves it. NULL if none
    does. -#}
{% macro trait_until_changes(traits) -%}
    {%- set leaving = namespace(of='', windows=[]) -%}
    {%- for trait in traits -%}{%- if trait['days'] and trait['days'] not in leaving.windows -%}{%- set leaving.windows = leaving.windows + [trait['days']] -%}{%- endif -%}{%- endfor -%}
    {%- for days in leaving.windows | sort -%}{%- for trait in traits -%}{%- if trait['days'] == days -%}
        {%- set leaving.of = leaving.of ~ ' when ' ~ trait_counts(trait) ~ ' then ' ~ add_hours('occurred_at', '24 * ' ~ days) -%}
    {%- endif -%}{%- endfor -%}{%- endfor -%}
    {%- set never = 'cast(null as ' ~ dbt.type_timestamp() ~ ')' -%}
    {{ return(trait_min('changes_after', 'case' ~ leaving.of ~ ' end' if leaving.of else never, type='time')) }}
{%- endmacro %}

{#- A text that is another one if the traits are others. -#}
{% macro traits_definition(traits) -%}
    {%- set all = namespace(text='') -%}
    {%- for trait in traits -%}
        {%- for key in ['name', 'kind', 'of', 'where', 'days', 'at_most', 'at_least'] -%}{%- set all.text = all.text ~ trait.get(key, '') ~ '; ' -%}{%- endfor -%}
        {%- set all.text = all.text ~ trait.get('sources', []) | join('; ') ~ '; ' -%}
    {%- endfor -%}
    {{ return(local_md5(all.text)) }}
{%- endmacro %}

{#- The query for traits, of a relation of events with the column as_of, the
    moment that windows end at. Its rows are of the columns `keys`. All traits are
    computed in one pass, but for those of the most frequent value, which count each
    value first. -#}
{% macro select_traits(traits, events, keys) -%}
{%- set columns = keys.split(', ') -%}
select
    {%- for key in columns %}
    told.{{ key }}{% if not loop.last %},{% endif %}
    {%- endfor %}
    {%- for trait in traits %},
    {% if trait['kind'] == 'most_frequent' %}frequent_{{ loop.index }}{% else %}told{% endif %}.{{ trait['name'] }}
    {%- endfor %}
from (
    select
        {{ keys }}
        {%- for trait in traits %}{% if trait['kind'] != 'most_frequent' %},
        {{ trait_value(trait) }} as {{ trait['name'] }}
        {%- endif %}{% endfor %}
    from {{ events }}
    where occurred_at < as_of
    group by {{ keys }}
) as told
{%- for trait in traits %}{% if trait['kind'] == 'most_frequent' %}
left join (
    select
        {{ keys }},
        {{ first_by('case when times >= ' ~ trait['at_least'] ~ ' then valued end', '-times', "coalesce(cast(valued as string), '')") }} as {{ trait['name'] }}
    from (
        select {{ keys }}, valued, count(*) as times
        from (
            select {{ keys }}, {{ trait_input(trait) }} as valued
            from {{ events }}
            where occurred_at < as_of
        ) as each_event
        where valued is not null
        group by {{ keys }}, valued
    ) as each_value
    group by {{ keys }}
) as frequent_{{ loop.index }}
    on {% set number = loop.index %}{% for key in columns %}{% if not loop.first %} and {% endif %}frequent_{{ number }}.{{ key }} = told.{{ key }}{% endfor %}
{%- endif %}{% endfor %}
{%- endmacro %}

{#- Whether an event counts for a trait. -#}
{% macro trait_counts(trait) -%}
({{ trait['where'] }}){% if trait['days'] %} and occurred_at >= {{ add_hours('as_of', '-24 * ' ~ trait['days']) }}{% endif %}
{%- endmacro %}

{#- What of an event counts for a trait; NULL if nothing does. -#}
{% macro trait_input(trait) -%}
case when {{ trait_counts(trait) }} then {{ trait['of'] }} end
{%- endmacro %}

{% macro trait_value(trait) -%}
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
{%- elif kind == 'unique_list' -%}{{ distinct_list(input, trait['at_most']) }}
{%- elif kind == 'unique_count' -%}count(distinct {{ input }})
{%- else -%}{{ exceptions.raise_compiler_error('there is no kind of trait called ' ~ kind) }}
{%- endif -%}
{%- endmacro %}
