{#- What somebody did, or what is known of them, for audience_members. All of it is
    told by the events that may be used for the audience's purpose, by those alone.

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

{#- They are in another audience, which must be for the same purpose. One that is
    too small to be published has nobody in it. -#}
{% macro in_audience(name) -%}
    {{ return({'kind': 'in_audience', 'name': name}) }}
{%- endmacro %}

{#- Somebody, everybody or nobody of an account that they belong to fulfils a
    condition; who belongs to it is told by the events' group_id. -#}
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

{#- Who fulfils a condition, or for did_not who does not, and since when. It reads
    the query evidence of audience_members. -#}
{% macro fulfilled(condition) -%}
{%- set kind = condition['kind'] -%}
{%- set recent = '' -%}
{%- if condition.get('days', 0) -%}
{%- set recent = ' and occurred_at >= ' ~ add_hours('as_of', '-24 * ' ~ condition['days']) -%}
{%- endif -%}
{%- if kind in ['did', 'did_not'] and condition['at_least'] == 1 -%}
select profile_id, min(occurred_at) as met_at
    from evidence
    where ({{ condition['where'] }}){{ recent }}
    group by profile_id
{%- elif kind == 'did' -%}
select profile_id, occurred_at as met_at
    from evidence
    where ({{ condition['where'] }}){{ recent }}
    qualify row_number() over (partition by profile_id order by occurred_at, event_id) = {{ condition['at_least'] }}
{%- elif kind == 'then_within' -%}
select profile_id, min(occurred_at) as met_at
    from (
        select
            profile_id,
            occurred_at,
            coalesce({{ condition['second'] }}, false) as is_second,
            {{ micros('occurred_at') }} - max(case when {{ condition['where'] }} then {{ micros('occurred_at') }} end)
                over (partition by profile_id order by coalesce({{ micros('occurred_at') }}, 0) range between unbounded preceding and 1 preceding) as gap
        from evidence
        where true{{ recent }}
    ) as followed
    where is_second and gap <= {{ condition['hours'] }} * 3600000000
    group by profile_id
{%- elif kind == 'trait' -%}
select profile_id, coalesce(met_at, {{ as_of() }}) as met_at
    from (
    {{ select_traits([condition['of'], trait_min('met_at', 'occurred_at', type='time')], 'evidence', 'profile_id') | indent(4) }}
    ) as traits
    where {{ condition['where'] }}
{%- elif kind == 'in_audience' -%}
select profile_id, entered_at as met_at
    from {{ ref(condition['name']) }}
{%- elif kind == 'account' -%}
{%- if condition['of']['kind'] == 'did_not' %}{{ exceptions.raise_compiler_error('did_not cannot be asked of an account: use account_none with did') }}{% endif -%}
select belongs.profile_id, min(coalesce(account.met_at, belongs.since)) as met_at
    from (
        select group_id, profile_id, min(occurred_at) as since
        from evidence
        where group_id is not null
        group by group_id, profile_id
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
    group by belongs.profile_id
{%- else -%}
{{ exceptions.raise_compiler_error('there is no kind of condition called ' ~ kind) }}
{%- endif -%}
{%- endmacro %}
