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
with words as (
    select m.profile_id, s.node_key, s.purpose, s.granted, s.decided_at, s.decision_id, s.policy_version
    from {{ ref('consent_node_effective') }} as s
    join {{ ref('identity_map') }} as m on m.node_key = s.node_key
),

said as (
    select
        profile_id,
        bit_xor({{ fingerprint(['node_key', 'purpose', 'granted', 'coalesce(' ~ micros('decided_at') ~ ', 0)', "coalesce(decision_id, '')", "coalesce(policy_version, '')"]) }}) as fingerprint
    from words
    group by profile_id
),

changed as (
    {%- if is_incremental() %}
    select coalesce(s.profile_id, d.profile_id) as profile_id, s.fingerprint
    from said as s
    full outer join (select profile_id, max(fingerprint) as fingerprint from {{ this }} group by profile_id) as d on d.profile_id = s.profile_id
    where s.fingerprint is distinct from d.fingerprint
    {%- else %}
    select profile_id, fingerprint from said
    {%- endif %}
),

verdicts as (
    select w.*
    from words as w
    {%- if is_incremental() %}
    join changed as c on c.profile_id = w.profile_id
    {%- endif %}
    where true
    qualify row_number() over (
        partition by w.profile_id, w.purpose
        order by case when w.granted then 1 else 0 end, w.decided_at desc, w.node_key
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
