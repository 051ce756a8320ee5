{#- The members of an audience: the only way to make one.

    all_of    conditions, each of which must be true of a person
    none_of   conditions, none of which may be
    any_of    conditions, of which one must be true, if there are any

    A condition is one of conditions.sql, or SQL on an event, which is did(…).

    Only events collected for the audience's purpose count, of people who agree to
    it now, and only these become members. Purpose and min_size come from the model's
    config.meta.audience. -#}
{% macro audience_members(all_of=[], none_of=[], any_of=[]) -%}
{#- While dbt reads the project, there is no config yet. -#}
{%- set meta = config.get('meta') or {} -%}
{%- set audience = meta.get('audience', {}) -%}
{%- set purpose = audience.get('purpose', 'none') -%}
with evidence as (
    select e.*, {{ as_of() }} as as_of
    from {{ consented_events(purpose) }} as e
    where e.occurred_at < {{ as_of() }}
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),
{% for given in all_of %}
{%- set condition = as_condition(given) %}
condition_{{ loop.index }} as (
    {{ fulfilled(condition) }}
),
{% endfor %}
{%- for given in none_of %}
{%- set condition = as_condition(given) %}
exception_{{ loop.index }} as (
    {{ fulfilled(condition) }}
),
{% endfor %}
{%- if any_of %}
choices as (
    select profile_id, min(met_at) as met_at
    from (
        {%- for given in any_of %}
        {%- set condition = as_condition(given) %}
        {%- if condition['kind'] == 'did_not' %}{{ exceptions.raise_compiler_error('did_not goes into all_of or none_of, not into any_of') }}{% endif %}
        {% if not loop.first %}union all {% endif %}(
    {{ fulfilled(condition) }}
        )
        {%- endfor %}
    ) as fulfilled
    group by profile_id
),
{% endif %}
matched as (
    select
        people.profile_id,
        greatest(people.met_at
            {%- for given in all_of %}{% set condition = as_condition(given) %}{% if condition['kind'] != 'did_not' %}, condition_{{ loop.index }}.met_at{% endif %}{% endfor %}
            {%- if any_of %}, coalesce(choices.met_at, people.met_at){% endif %}) as entered_at
    from people
    {%- for given in all_of %}
    {%- set condition = as_condition(given) %}
    {% if condition['kind'] == 'did_not' %}left {% endif %}join condition_{{ loop.index }} on condition_{{ loop.index }}.profile_id = people.profile_id
    {%- endfor %}
    {%- for given in none_of %}
    left join exception_{{ loop.index }} on exception_{{ loop.index }}.profile_id = people.profile_id
    {%- endfor %}
    {%- if any_of %}
    join choices on choices.profile_id = people.profile_id
    {%- endif %}
    where true
    {%- for given in all_of %}
    {%- set condition = as_condition(given) %}
    {%- if condition['kind'] == 'did_not' %}
        and condition_{{ loop.index }}.profile_id is null
    {%- endif %}
    {%- endfor %}
    {%- for given in none_of %}
    {%- set condition = as_condition(given) %}
        and exception_{{ loop.index }}.profile_id is {% if condition['kind'] == 'did_not' %}not {% endif %}null
    {%- endfor %}
),

members as (
    select matched.profile_id, matched.entered_at
    from matched
    join {{ ref('consent_profile') }} as consent
        on consent.profile_id = matched.profile_id and consent.purpose = '{{ purpose }}' and consent.allowed
)

select profile_id, entered_at
from members
where (select count(*) from members) >= {{ audience.get('min_size', 1) }}
{%- endmacro %}
