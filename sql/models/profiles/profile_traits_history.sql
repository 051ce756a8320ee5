{#- A trait changes when an event happens, and when one leaves its window. -#}
{%- set traits = trait_list() -%}
-- The traits of profile_traits through time, as they were at the end of each day,
-- by UTC, on which one changed. It is computed from the events, so that what
-- arrives late is in it as if it had come in time.
with events as (
    select * from {{ consented_events('analytics') }} as e
),

spans as (
    select 0 as days
    {%- for trait in traits %}{% if trait['days'] %}
    union distinct select {{ trait['days'] }} as days
    {%- endif %}{% endfor %}
),

moments as (
    select distinct e.profile_id, {{ add_hours(dbt.date_trunc('day', 'e.occurred_at'), '24 * (s.days + 1)') }} as as_of
    from events as e
    cross join spans as s
),

known as (
    select e.*, m.as_of
    from moments as m
    join events as e on e.profile_id = m.profile_id
    where m.as_of <= {{ as_of() }}
),

states as (
    {{ select_traits(traits, 'known', 'profile_id, as_of') | indent(4) }}
),

listed as (
    {%- for trait in traits %}
    {% if not loop.first %}union all {% endif %}select {{ loop.index }} as place, '{{ trait['name'] }}' as trait
    {%- endfor %}
),

valued as (
    select
        s.profile_id,
        t.trait,
        s.as_of,
        case t.place
            {%- for trait in traits %}{% if trait['type'] == 'text' %}
            when {{ loop.index }} then cast(s.{{ trait['name'] }} as string)
            {%- elif trait['type'] == 'list' %}
            when {{ loop.index }} then array_to_string(s.{{ trait['name'] }}, ',')
            {%- endif %}{% endfor %}
        end as value_text,
        case t.place
            {%- for trait in traits %}{% if trait['type'] == 'number' %}
            when {{ loop.index }} then cast(s.{{ trait['name'] }} as {{ exact() }})
            {%- endif %}{% endfor %}
        end as value_number,
        case t.place
            {%- for trait in traits %}{% if trait['type'] == 'time' %}
            when {{ loop.index }} then s.{{ trait['name'] }}
            {%- endif %}{% endfor %}
        end as value_time
    from states as s
    cross join listed as t
),

compared as (
    select
        v.*,
        lag(v.value_text) over (partition by v.profile_id, v.trait order by v.as_of) as old_text,
        lag(v.value_number) over (partition by v.profile_id, v.trait order by v.as_of) as old_number,
        lag(v.value_time) over (partition by v.profile_id, v.trait order by v.as_of) as old_time
    from valued as v
)

select
    profile_id,
    trait,
    as_of as valid_from,
    lead(as_of) over (partition by profile_id, trait order by as_of) as valid_to,
    value_text,
    value_number,
    value_time
from compared
where value_text is distinct from old_text or value_number is distinct from old_number or value_time is distinct from old_time
