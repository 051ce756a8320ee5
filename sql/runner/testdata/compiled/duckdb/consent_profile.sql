-- One verdict per profile and purpose. A standing refusal of any of a person's
-- identifiers refuses for all; without evidence there is no row, which means no. A
-- run decides anew for those profiles that have other identifiers, or whose
-- identifiers have other words, than it was decided by.
with words as (
    select m.profile_id, s.node_key, s.purpose, s.granted, s.decided_at, s.decision_id, s.policy_version
    from sluis_models.consent_node_effective as s
    join sluis_models.identity_map as m on m.node_key = s.node_key
),

said as (
    select
        profile_id,
        bit_xor(cast(hash(node_key, purpose, granted, coalesce(epoch_us(decided_at), 0), coalesce(decision_id, ''), coalesce(policy_version, '')) >> 1 as int64)) as fingerprint
    from words
    group by profile_id
),

changed as (
    select profile_id, fingerprint from said
),

verdicts as (
    select w.*
    from words as w
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
