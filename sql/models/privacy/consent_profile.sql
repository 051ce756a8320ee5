{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='profile_id',
    post_hook="{{ remove_husks('purpose') }}"
) }}
-- One verdict per profile and purpose. A standing refusal of any of a person's
-- identifiers refuses for all; without evidence there is no row, which means no. A
-- run decides anew for those profiles that have other identifiers, or whose
-- identifiers have other words, than it was decided by.
with said as (
    select m.profile_id, bit_xor(n.fingerprint) as fingerprint
    from (
        select
            node_key,
            bit_xor({{ fingerprint(['node_key', 'purpose', 'granted', 'coalesce(' ~ micros('decided_at') ~ ', 0)', "coalesce(decision_id, '')", "coalesce(policy_version, '')"]) }}) as fingerprint
        from {{ ref('consent_node_effective') }}
        group by node_key
    ) as n
    join {{ ref('identity_map') }} as m on m.node_key = n.node_key
    group by m.profile_id
),

{{ changed_keys('said', 'profile_id') }}

nodes as (
    select m.profile_id, m.node_key
    from {{ ref('identity_map') }} as m
    join changed as c on c.profile_id = m.profile_id
),

verdicts as (
    select n.profile_id, s.*
    from {{ ref('consent_node_effective') }} as s
    join nodes as n on n.node_key = s.node_key
    where true
    qualify row_number() over (
        partition by n.profile_id, s.purpose
        order by case when s.granted then 1 else 0 end, s.decided_at desc, s.node_key
    ) = 1
)

select
    c.profile_id,
    v.purpose,
    v.granted as allowed,
    v.decision_id,
    v.policy_version,
    v.node_key as deciding_node,
    v.decided_at,
    c.fingerprint
from changed as c
left join verdicts as v on v.profile_id = c.profile_id
