{#- What int_behaviour_days asks of each event: whether it makes somebody active, and
    whether it uses each of the features, in their order. -#}
{% macro behaviour_asked() -%}
    {{ return([var('active_when')] + (var('features') | map(attribute='where') | list)) }}
{%- endmacro %}

{#- The events that int_behaviour_days is made of, by day, as stg_identifier_days has
    added them up. While some are yet to come, as of now, a day has no fingerprint. -#}
{% macro behaviour_by_day() -%}
select
    landed_on,
    sum(n_events) as n_events,
    case when max(last_occurred_at) < {{ as_of() }} then bit_xor(fingerprint) end as fingerprint
from {{ ref('stg_identifier_days') }}
where not is_bot and identifier_set <> '' and {{ array_contains("split(purposes, ',')", "'analytics'") }}
group by landed_on
{%- endmacro %}

{#- FROM item of the rows of int_behaviour_days, by profile, of people who agree to
    analytics now. -#}
{% macro consented_behaviour() -%}
(
    select o.profile_id, b.*
    from {{ ref('int_behaviour_days') }} as b
    join {{ ref('identifier_owners') }} as o on o.identifier_set = b.identifier_set
    join {{ ref('consent_profile') }} as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
)
{%- endmacro %}
