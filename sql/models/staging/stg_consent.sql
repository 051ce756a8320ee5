-- All evidence of consent: choices that people made, and what their events
-- carried. An event tells what was agreed to when it happened: one that was held
-- back on a device must not undo a refusal that came meanwhile. A refusal counts
-- from when it was heard, whatever the device's clock says.
-- Of what events repeat, the last time is what counts.
with {{ consent_evidence() }}

select
    v.node_key,
    v.purpose,
    -- A row that does not say yes says no.
    coalesce(v.granted, false) as granted,
    v.decided_at,
    v.decision_id,
    v.policy_version,
    v.signal
from evidence as v
