-- One verdict per profile and purpose. A standing refusal of any of a person's
-- identifiers refuses for all; without evidence there is no row, which means no.
select
    m.profile_id,
    s.purpose,
    s.granted as allowed,
    s.decision_id,
    s.policy_version,
    s.node_key as deciding_node,
    s.decided_at
from sluis_models.consent_node_effective as s
join sluis_models.identity_map as m on m.node_key = s.node_key
where true
qualify row_number() over (
    partition by m.profile_id, s.purpose
    order by case when s.granted then 1 else 0 end, s.decided_at desc, s.node_key
) = 1
