{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='profile_id',
    post_hook="{{ remove_husks('fingerprint') }}"
) }}
{%- set traits = trait_list() -%}
{#- Other traits make all anew. -#}
{%- set definition = traits_definition(traits) -%}
-- The traits of profile_traits, and until when they stay what they are without new
-- events. A run makes those of people anew of whom something changed, or of whom
-- an event left a window of time.
with {{ changed_profiles("definition <> '" ~ definition ~ "' or made_as_of > " ~ as_of() ~ " or changes_after < " ~ as_of()) }}

events as (
    select e.*, {{ as_of() }} as as_of from {{ wanted_events() }} as e
),

valued as (
    {{ select_traits(traits + [trait_until_changes(traits)], 'events', 'profile_id') | indent(4) }}
)

select
    c.profile_id,
    cast(c.n_events as int64) as n_events,
    c.fingerprint,
    '{{ definition }}' as definition,
    {{ as_of() }} as made_as_of,
    v.changes_after
    {%- for trait in traits %},
    v.{{ trait['name'] }}
    {%- endfor %}
from {% if is_incremental() %}changed{% else %}usable{% endif %} as c
left join valued as v on v.profile_id = c.profile_id
