-- All evidence of consent: choices that people made, and what their events
-- carried. An event tells what was agreed to when it happened: one that was held
-- back on a device must not undo a refusal that came meanwhile. A refusal counts
-- from when it was heard, whatever the device's clock says.
-- Of what events repeat, the last time is what counts.
with carried as (
    select identifier.pseudonym as node_key, e.occurred_at, e.received_at, e.decision_id, e.policy_version, e.purposes, e.denied
    from sluis_models.stg_events as e
    cross join unnest(e.identifiers) as identifier
    where identifier.pseudonym is not null
),

evidence as (
    select distinct
        pseudonym as node_key,
        purpose,
        granted,
        decided_at,
        decision_id,
        policy_version,
        signal
    from sluis.consents
    where pseudonym is not null and purpose is not null

    union all

    select
        c.node_key,
        purpose,
        true as granted,
        max(c.occurred_at) as decided_at,
        c.decision_id,
        c.policy_version,
        'event' as signal
    from carried as c
    cross join unnest(c.purposes) as purpose
    group by c.node_key, purpose, c.decision_id, c.policy_version

    union all

    select
        c.node_key,
        purpose,
        false as granted,
        max(c.received_at) as decided_at,
        c.decision_id,
        c.policy_version,
        'event' as signal
    from carried as c
    cross join unnest(c.denied) as purpose
    group by c.node_key, purpose, c.decision_id, c.policy_version
)

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
