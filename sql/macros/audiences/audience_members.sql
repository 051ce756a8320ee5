{#- The members of an audience: the only way to make one.

    all_of    conditions on an event, in SQL; for each, the person has such an event
    none_of   conditions on an event, in SQL; for each, the person has no such event

    Only events collected for the audience's purpose count, and only people who
    agree to it now become members. Purpose and min_size come from the model's
    config.meta.audience. -#}
{% macro audience_members(all_of, none_of=[]) -%}
{#- While dbt reads the project, there is no config yet. -#}
{%- set meta = config.get('meta') or {} -%}
{%- set audience = meta.get('audience', {}) -%}
{%- set purpose = audience.get('purpose', 'none') -%}
with evidence as (
    select * from {{ ref('profile_events') }}
    where {{ array_contains('purposes', "'" ~ purpose ~ "'") }}
),
{% for condition in all_of %}
condition_{{ loop.index }} as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    where {{ condition }}
    group by profile_id
),
{% endfor %}
{%- for condition in none_of %}
exception_{{ loop.index }} as (
    select distinct profile_id
    from evidence
    where {{ condition }}
),
{% endfor %}
matched as (
    select
        condition_1.profile_id,
        greatest({% for condition in all_of %}condition_{{ loop.index }}.met_at{% if not loop.last %}, {% endif %}{% endfor %}) as entered_at
    from condition_1
    {%- for condition in all_of %}{% if not loop.first %}
    join condition_{{ loop.index }} on condition_{{ loop.index }}.profile_id = condition_1.profile_id
    {%- endif %}{% endfor %}
    {%- for condition in none_of %}
    left join exception_{{ loop.index }} on exception_{{ loop.index }}.profile_id = condition_1.profile_id
    {%- endfor %}
    where true
    {%- for condition in none_of %}
        and exception_{{ loop.index }}.profile_id is null
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
