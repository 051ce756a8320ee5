-- depends_on: {{ ref('consent_profile') }}
-- Nobody is in an audience without consent for its purpose. `sluis models` has
-- this check built in, where it cannot be switched off; this is it for dbt.
select 'none' as audience, 'none' as profile_id
from {{ ref('consent_profile') }}
where false
{%- if execute %}{% for node in graph.nodes.values() if node.resource_type == 'model' and node.config.meta.get('audience') %}
union all
select '{{ node.name }}' as audience, a.profile_id
from {{ node.relation_name }} as a
left join {{ ref('consent_profile') }} as c
    on c.profile_id = a.profile_id and c.purpose = '{{ node.config.meta.audience.purpose }}' and c.allowed
where c.profile_id is null
{%- endfor %}{% endif %}
