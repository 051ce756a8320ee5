{#- The members of an audience: the only way to make one. They are people or, where
    config.meta.audience says entity: account, accounts.

    all_of    conditions, each of which must be true of them
    none_of   conditions, none of which may be
    any_of    conditions, of which one must be true, if there are any

    A condition is one of conditions.sql, or SQL on an event, which is did(…).

    Only events collected for the audience's purpose count, of people who agree to
    it now, and only these become members; an account does if as many of its people
    agree as min_members_consenting says, or one. Purpose and sizes come from the
    model's config.meta.audience. -#}
{% macro audience_members(all_of=[], none_of=[], any_of=[]) -%}
{#- While dbt reads the project, there is no config yet. -#}
{%- set meta = config.get('meta') or {} -%}
{%- set audience = meta.get('audience', {}) -%}
{%- set purpose = audience.get('purpose', 'none') -%}
{%- set accounts = audience.get('entity') == 'account' -%}
{%- set key = 'account_id' if accounts else 'profile_id' -%}
{#- Whom the conditions are asked of. Who fulfils one of events is among the people, and
    was not met later than that: then nobody else is looked for among all events. -#}
{%- set base = namespace(of='companies' if accounts else 'people') -%}
{%- set of_events = ['did', 'then_within', 'trait'] -%}
{%- for given in all_of -%}
{%- if base.of == 'people' and as_condition(given)['kind'] in of_events -%}{%- set base.of = 'condition_' ~ loop.index -%}{%- endif -%}
{%- endfor -%}
{#- A condition on events reads few of them. What is asked of accounts reads them often. -#}
{%- set often = namespace(asked=accounts) -%}
{%- for given in all_of + none_of + any_of -%}
{%- if as_condition(given)['kind'] == 'account' -%}{%- set often.asked = true -%}{%- endif -%}
{%- endfor -%}
with evidence {% if often.asked %}as{% else %}{{ as_read_again() }}{% endif %} (
    select e.*, {% if accounts %}e.group_id as account_id, {% endif %}{{ as_of() }} as as_of
    from {{ consented_events(purpose) }} as e
    where e.occurred_at < {{ as_of() }}
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),
{% if accounts %}
companies as (
    select account_id, min(occurred_at) as met_at, count(distinct profile_id) as n_consenting
    from evidence
    where account_id is not null
    group by account_id
),
{% endif %}
{% for given in all_of %}
{%- set condition = as_condition(given) %}
condition_{{ loop.index }} as (
    {{ fulfilled(condition, key) }}
),
{% endfor %}
{%- for given in none_of %}
{%- set condition = as_condition(given) %}
exception_{{ loop.index }} as (
    {{ fulfilled(condition, key) }}
),
{% endfor %}
{%- if any_of %}
choices as (
    select {{ key }}, min(met_at) as met_at
    from (
        {%- for given in any_of %}
        {%- set condition = as_condition(given) %}
        {%- if condition['kind'] == 'did_not' %}{{ exceptions.raise_compiler_error('did_not goes into all_of or none_of, not into any_of') }}{% endif %}
        {% if not loop.first %}union all {% endif %}(
    {{ fulfilled(condition, key) }}
        )
        {%- endfor %}
    ) as fulfilled
    group by {{ key }}
),
{% endif %}
matched as (
    select
        {{ base.of }}.{{ key }},
        greatest({{ base.of }}.met_at
            {%- for given in all_of %}{% set condition = as_condition(given) %}{% if condition['kind'] != 'did_not' and base.of != 'condition_' ~ loop.index %}, condition_{{ loop.index }}.met_at{% endif %}{% endfor %}
            {%- if any_of %}, coalesce(choices.met_at, {{ base.of }}.met_at){% endif %}) as entered_at
    from {{ base.of }}
    {%- for given in all_of %}{% if base.of != 'condition_' ~ loop.index %}
    {%- set condition = as_condition(given) %}
    {% if condition['kind'] == 'did_not' %}left {% endif %}join condition_{{ loop.index }} on condition_{{ loop.index }}.{{ key }} = {{ base.of }}.{{ key }}
    {%- endif %}{% endfor %}
    {%- for given in none_of %}
    left join exception_{{ loop.index }} on exception_{{ loop.index }}.{{ key }} = {{ base.of }}.{{ key }}
    {%- endfor %}
    {%- if any_of %}
    join choices on choices.{{ key }} = {{ base.of }}.{{ key }}
    {%- endif %}
    where true
    {%- for given in all_of %}
    {%- set condition = as_condition(given) %}
    {%- if condition['kind'] == 'did_not' %}
        and condition_{{ loop.index }}.{{ key }} is null
    {%- endif %}
    {%- endfor %}
    {%- for given in none_of %}
    {%- set condition = as_condition(given) %}
        and exception_{{ loop.index }}.{{ key }} is {% if condition['kind'] == 'did_not' %}not {% endif %}null
    {%- endfor %}
),

members as (
    select matched.{{ key }}, matched.entered_at
    from matched
    {%- if accounts %}
    join companies on companies.account_id = matched.account_id
    where companies.n_consenting >= {{ audience.get('min_members_consenting', 1) }}
    {%- else %}
    join {{ ref('consent_profile') }} as consent
        on consent.profile_id = matched.profile_id and consent.purpose = '{{ purpose }}' and consent.allowed
    {%- endif %}
)

select {{ key }}, entered_at
from members
where (select count(*) from members) >= {{ audience.get('min_size', 1) }}
{%- endmacro %}
