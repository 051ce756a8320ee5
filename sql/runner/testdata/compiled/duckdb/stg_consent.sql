-- All evidence of consent: choices that people made, and what their events
-- carried. An event tells what was agreed to when it happened: one that was held
-- back on a device must not undo a refusal that came meanwhile. A refusal counts
-- from when it was heard, whatever the device's clock says.
-- Of what events repeat, the last time is what counts.
with repeated as (
    select
        identifier_set,
        decision_id,
        policy_version,
        purposes,
        denied,
        max(last_occurred_at) as last_occurred_at,
        max(last_received_at) as last_received_at
    from sluis_models.stg_identifier_days
    where identifier_set <> '' and (purposes <> '' or denied <> '')
    group by identifier_set, decision_id, policy_version, purposes, denied
),

carried as (
    select i.node_key, r.*
    from repeated as r
    join sluis_models.stg_identifiers as i on i.identifier_set = r.identifier_set
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
        max(c.last_occurred_at) as decided_at,
        c.decision_id,
        c.policy_version,
        'event' as signal
    from carried as c
    cross join unnest(split(c.purposes, ',')) as purpose_list(purpose)
    where purpose <> ''
    group by c.node_key, purpose, c.decision_id, c.policy_version

    union all

    select
        c.node_key,
        purpose,
        false as granted,
        max(c.last_received_at) as decided_at,
        c.decision_id,
        c.policy_version,
        'event' as signal
    from carried as c
    cross join unnest(split(c.denied, ',')) as purpose_list(purpose)
    where purpose <> ''
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
