{#- What an audience declares under a key of config.meta.audience. While dbt reads
    the project nothing is known yet, and it is the default. -#}
{% macro audience_declared(name, key, default) -%}
    {%- if not execute -%}{{ return(default) }}{%- endif -%}
    {%- set node = graph.nodes['model.sluis.' ~ name] -%}
    {{ return(node['config']['meta']['audience'].get(key, default)) }}
{%- endmacro %}

{#- What defines an audience, as a hash that changes with its file, its purpose or
    its sizes. -#}
{% macro audience_definition(name) -%}
    {%- if not execute -%}{{ return('') }}{%- endif -%}
    {%- set node = graph.nodes['model.sluis.' ~ name] -%}
    {{ return(node['checksum']['checksum'][:16] ~ ' ' ~ audience_declared(name, 'purpose', '') ~ ' ' ~ audience_declared(name, 'min_size', 1) ~ ' ' ~ audience_declared(name, 'min_members_consenting', 1)) }}
{%- endmacro %}

{#- A query for the audiences that are followed, with what they declare. -#}
{% macro audiences_declared() -%}
{%- if not var('audiences') -%}
select cast(null as string) as audience, cast(null as string) as entity, cast(null as string) as purpose, 1 as min_size, 1 as min_members_consenting, cast(null as string) as definition
from {{ ref('consent_profile') }}
where false
{%- endif -%}
{%- for name in var('audiences') %}
{% if not loop.first %}union all {% endif %}select '{{ name }}' as audience, '{{ audience_declared(name, 'entity', 'profile') }}' as entity, '{{ audience_declared(name, 'purpose', '') }}' as purpose, {{ audience_declared(name, 'min_size', 1) }} as min_size, {{ audience_declared(name, 'min_members_consenting', 1) }} as min_members_consenting, '{{ audience_definition(name) }}' as definition
{%- endfor %}
{%- endmacro %}

{#- Whether any of them is of accounts. -#}
{% macro accounts_followed() -%}
    {%- for name in var('audiences') -%}
        {%- if audience_declared(name, 'entity', 'profile') == 'account' -%}{{ return(true) }}{%- endif -%}
    {%- endfor -%}
    {{ return(false) }}
{%- endmacro %}

{#- A query for how many people of each account agree to each purpose, by events
    that may be used for it. -#}
{% macro consenting_by_account() -%}
select c.purpose, e.group_id as account_id, count(distinct e.profile_id) as n_consenting
from {{ ref('profile_events') }} as e
join {{ ref('consent_profile') }} as c on c.profile_id = e.profile_id and c.allowed and {{ array_contains('e.purposes', 'c.purpose') }}
where e.group_id is not null
group by c.purpose, e.group_id
{%- endmacro %}
