-- Who is in which audience now, of those listed in the var audiences.
{%- if not var('audiences') %}
select cast(null as string) as audience, cast(null as string) as entity, cast(null as string) as profile_id, cast(null as string) as account_id, {{ as_of() }} as entered_at
from {{ ref('consent_profile') }}
where false
{%- endif %}
{%- for name in var('audiences') %}
{%- set of_people = audience_declared(name, 'entity', 'profile') == 'profile' %}
{% if not loop.first %}union all {% endif %}select '{{ name }}' as audience, {% if of_people %}'profile' as entity, profile_id, cast(null as string) as account_id{% else %}'account' as entity, cast(null as string) as profile_id, account_id{% endif %}, entered_at from {{ ref(name) }}
{%- endfor %}
