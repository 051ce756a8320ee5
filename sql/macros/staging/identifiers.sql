{#- The identifiers of an event as one text, which tells them apart from any others:
    kinds and pseudonyms, in the event's order. There are few of these texts
    beside the events, so that who is behind an event is looked up by it, in tables
    that are small. -#}
{% macro identifier_set(identifiers) -%}
    {{ return(adapter.dispatch('identifier_set')(identifiers)) }}
{%- endmacro %}

{% macro default__identifier_set(identifiers) -%}
    array_to_string(array(select array_to_string([coalesce(i.kind, ''), i.pseudonym], ':') from unnest({{ identifiers }}) as i with offset as place where i.pseudonym is not null order by place nulls last), ' ')
{%- endmacro %}

{% macro duckdb__identifier_set(identifiers) -%}
    coalesce(array_to_string(list_transform({{ identifiers }}, lambda i: coalesce(i.kind, '') || ':' || i.pseudonym), ' '), '')
{%- endmacro %}

{#- Kind and pseudonym of one identifier in such a text. -#}
{% macro kind_in(identifier) -%}
    {{ return(adapter.dispatch('kind_in')(identifier)) }}
{%- endmacro %}

{% macro default__kind_in(identifier) -%}
    regexp_extract({{ identifier }}, '^[^:]*')
{%- endmacro %}

{% macro pseudonym_in(identifier) -%}
    {{ return(adapter.dispatch('pseudonym_in')(identifier)) }}
{%- endmacro %}

{% macro default__pseudonym_in(identifier) -%}
    regexp_replace({{ identifier }}, '^[^:]*:', '')
{%- endmacro %}

{#- All pseudonyms that an event carries, each once and in order; NULL if there is
    none. -#}
{% macro pseudonyms_of(identifiers, anonymous_id, user_id) -%}
    {{ return(adapter.dispatch('pseudonyms_of')(identifiers, anonymous_id, user_id)) }}
{%- endmacro %}

{% macro default__pseudonyms_of(identifiers, anonymous_id, user_id) -%}
    array(select distinct p from unnest(array_concat(array(select i.pseudonym from unnest({{ identifiers }}) as i), [{{ anonymous_id }}, {{ user_id }}])) as p where p is not null order by p)
{%- endmacro %}

{% macro duckdb__pseudonyms_of(identifiers, anonymous_id, user_id) -%}
    nullif(list_sort(list_distinct(list_concat(list_transform({{ identifiers }}, lambda i: i.pseudonym), [{{ anonymous_id }}, {{ user_id }}]))), [])
{%- endmacro %}

{#- What tells whether a set of rows is the same as before: a number for each row,
    to be combined by bit_xor, of columns that are never NULL. It is of an
    engine's own hash, so that a new version of the engine may find all of them
    changed. -#}
{% macro fingerprint(columns) -%}
    {{ return(adapter.dispatch('fingerprint')(columns)) }}
{%- endmacro %}

{% macro default__fingerprint(columns) -%}
    farm_fingerprint(concat({% for column in columns %}{% if not loop.first %}, ' ', {% endif %}cast({{ column }} as string){% endfor %}))
{%- endmacro %}

{% macro duckdb__fingerprint(columns) -%}
    cast(hash({{ columns | join(', ') }}) >> 1 as int64)
{%- endmacro %}
