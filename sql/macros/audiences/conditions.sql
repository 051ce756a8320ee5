{#- What somebody did, or what is known of them, for audience_members. All of it is
    told by the events that may be used for the audience's purpose, by those alone.
    Of an account it is told by the events that carry its group_id.

    where     which events, in SQL on the columns of profile_events
    at_least  how many of them
    days      how many days back, as for traits; 0 for ever -#}
{% macro did(where, at_least=1, days=0) -%}
    {{ return({'kind': 'did', 'where': where, 'at_least': at_least, 'days': days}) }}
{%- endmacro %}

{#- They did no such thing. -#}
{% macro did_not(where, days=0) -%}
    {{ return({'kind': 'did_not', 'where': where, 'at_least': 1, 'days': days}) }}
{%- endmacro %}

{#- They did one thing and then the other, within so many hours. -#}
{% macro then_within(first, second, hours, days=0) -%}
    {{ return({'kind': 'then_within', 'where': first, 'second': second, 'hours': hours, 'days': days}) }}
{%- endmacro %}

{#- A trait, as traits.sql has them, fulfils a condition: trait(trait_count('visits', …),
    'visits > 3'). It is computed anew, since profile_traits is for analytics. The
    moment it came true is not known: it counts from the person's first event. -#}
{% macro trait(of, condition) -%}
    {{ return({'kind': 'trait', 'of': of, 'where': condition}) }}
{%- endmacro %}

{#- They are in another audience, which must be for the same purpose; if that is of
    accounts, they belong to one of these. An audience that is too small to be
    published has nobody in it. -#}
{% macro in_audience(name) -%}
    {{ return({'kind': 'in_audience', 'name': name}) }}
{%- endmacro %}

{#- A model that has a row for each of them, such as score_intent, has one that
    fulfils a condition. It must say in config.meta.purpose that it is for the
    audience's purpose. -#}
{% macro scored(model, condition) -%}
    {{ return({'kind': 'scored', 'model': model, 'where': condition}) }}
{%- endmacro %}

{#- Somebody, everybody or nobody of the account, or of one that they belong to,
    fulfils a condition; who belongs to it is told by the events' group_id. -#}
{% macro account_any(condition) -%}
    {{ return({'kind': 'account', 'who': 'any', 'of': as_condition(condition)}) }}
{%- endmacro %}

{% macro account_all(condition) -%}
    {{ return({'kind': 'account', 'who': 'all', 'of': as_condition(condition)}) }}
{%- endmacro %}

{% macro account_none(condition) -%}
    {{ return({'kind': 'account', 'who': 'none', 'of': as_condition(condition)}) }}
{%- endmacro %}

{#- A condition, which may be given as SQL alone. -#}
{% macro as_condition(condition) -%}
    {%- if condition is string -%}{{ return(did(condition)) }}{%- endif -%}
    {{ return(condition) }}
{%- endmacro %}

{#- Who fulfils a condition, or for did_not who does not, and since when, by the
    column that identifies them. It reads the queries evidence and people of
    audience_members. -#}
{% macro fulfilled(condition, key='profile_id') -%}
{%- set kind = condition['kind'] -%}
{%- set also = '' if key == 'profile_id' else ' and ' ~ key ~ ' is not null' -%}
{%- if condition.get('days', 0) -%}
{%- set also = also ~ ' and occurred_at >= ' ~ add_hours('as_of', '-24 * ' ~ condition['days']) -%}
{%- endif -%}
{%- if kind in ['did', 'did_not'] and condition['at_least'] == 1 -%}
select {{ key }}, min(occurred_at) as met_at
    from evidence
    where ({{ condition['where'] }}){{ also }}
    group by {{ key }}
{%- elif kind == 'did' -%}
select {{ key }}, occurred_at as met_at
    from evidence
    where ({{ condition['where'] }}){{ also }}
    qualify row_number() over (partition by {{ key }} order by occurred_at, event_id) = {{ condition['at_least'] }}
{%- elif kind == 'then_within' -%}
select {{ key }}, min(occurred_at) as met_at
    from (
        select
            {{ key }},
            occurred_at,
            coalesce({{ condition['second'] }}, false) as is_second,
            {{ micros('occurred_at') }} - max(case when {{ condition['where'] }} then {{ micros('occurred_at') }} end)
                over (partition by {{ key }} order by coalesce({{ micros('occurred_at') }}, 0) range between unbounded preceding and 1 preceding) as gap
        from evidence
        where (({{ condition['where'] }}) or ({{ condition['second'] }})){{ also }}
    ) as followed
    where is_second and gap <= {{ condition['hours'] }} * 3600000000
    group by {{ key }}
{%- elif kind == 'trait' -%}
select {{ key }}, coalesce(met_at, {{ as_of() }}) as met_at
    from (
    {{ select_traits([condition['of'], trait_min('met_at', 'occurred_at', type='time')], 'evidence', key) | indent(4) }}
    ) as traits
    where ({{ condition['where'] }}){{ also }}
{%- elif kind == 'in_audience' -%}
{%- set entity = audience_declared(condition['name'], 'entity', 'profile') -%}
{%- if entity ~ '_id' == key -%}
select {{ key }}, entered_at as met_at
    from {{ ref(condition['name']) }}
{%- elif entity == 'account' -%}
select belongs.profile_id, min(account.entered_at) as met_at
    from (select distinct group_id, profile_id from evidence where group_id is not null) as belongs
    join {{ ref(condition['name']) }} as account on account.account_id = belongs.group_id
    group by belongs.profile_id
{%- else -%}
{#- Named, or dbt would not know that it is needed. -#}
{%- set named = ref(condition['name']) -%}
{%- if execute %}{{ exceptions.raise_compiler_error('the audience ' ~ condition['name'] ~ ' is of people: ask for it by account_any, account_all or account_none') }}{% endif -%}
{%- endif -%}
{%- elif kind == 'scored' -%}
select scored.{{ key }}, met.met_at
    from (select distinct {{ key }} from {{ ref(condition['model']) }} where {{ condition['where'] }}) as scored
    join {% if key == 'profile_id' %}people{% else %}companies{% endif %} as met on met.{{ key }} = scored.{{ key }}
{%- elif kind == 'account' -%}
{%- if condition['of']['kind'] == 'did_not' %}{{ exceptions.raise_compiler_error('did_not cannot be asked of an account: use account_none with did') }}{% endif -%}
select belongs.{{ key }}, min(coalesce(account.met_at, belongs.since)) as met_at
    from (
        select group_id, {{ key }}, min(occurred_at) as since
        from evidence
        where group_id is not null
        group by group_id, {{ key }}
    ) as belongs
    join (
        select
            member.group_id,
            count(*) as n,
            count(fulfilling.profile_id) as n_fulfilling,
            min(fulfilling.met_at) as met_at
        from (select distinct group_id, profile_id from evidence where group_id is not null) as member
        left join (
    {{ fulfilled(condition['of']) }}
        ) as fulfilling on fulfilling.profile_id = member.profile_id
        group by member.group_id
    ) as account on account.group_id = belongs.group_id
    where account.n_fulfilling {% if condition['who'] == 'any' %}> 0{% elif condition['who'] == 'all' %}= account.n{% else %}= 0{% endif %}
    group by belongs.{{ key }}
{%- else -%}
{{ exceptions.raise_compiler_error('there is no kind of condition called ' ~ kind) }}
{%- endif -%}
{%- endmacro %}
