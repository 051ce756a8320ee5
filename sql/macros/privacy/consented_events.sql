{#- FROM item of the events that may be used for a purpose, by profile: those
    that were collected for it, of people who agree to it now. Whatever is said
    of people is read from here. -#}
{% macro consented_events(purpose) -%}
(
    select e.*
    from {{ ref('profile_events') }} as e
    join {{ ref('consent_profile') }} as c on c.profile_id = e.profile_id and c.purpose = '{{ purpose }}' and c.allowed
    where {{ array_contains('e.purposes', "'" ~ purpose ~ "'") }}
)
{%- endmacro %}
