-- The latest word of each identifier on each purpose. Of two at the same time
-- the refusal counts.
select
    node_key,
    purpose,
    granted,
    decided_at,
    decision_id,
    policy_version,
    signal
from sluis_models.stg_consent
where true
qualify row_number() over (
    partition by node_key, purpose
    order by
        decided_at desc, case when granted then 1 else 0 end,
        decision_id nulls last, policy_version nulls last, signal nulls last
) = 1
