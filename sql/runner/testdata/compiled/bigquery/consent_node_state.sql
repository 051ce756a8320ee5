-- The latest word of each identifier on each purpose, of what stg_consent has. Of
-- two at the same time the refusal counts. A run looks anew at those identifiers of
-- which there is other evidence than what their words were found in.
with told as (
    select node_key, farm_fingerprint(concat(cast(coalesce(sum(n), 0) as string), ' ', cast(coalesce(bit_xor(fingerprint), 0) as string))) as fingerprint
    from (
        select
            pseudonym as node_key,
            count(*) as n,
            bit_xor(farm_fingerprint(concat(cast(coalesce(spool_id, '') as string), ' ', cast(coalesce(spool_offset, 0) as string), ' ', cast(purpose as string), ' ', cast(coalesce(granted, false) as string), ' ', cast(coalesce(unix_micros(decided_at), 0) as string), ' ', cast(coalesce(decision_id, '') as string), ' ', cast(coalesce(policy_version, '') as string), ' ', cast(coalesce(signal, '') as string)))) as fingerprint
        from sluis.consents
        where pseudonym is not null and purpose is not null
        group by pseudonym

        union all

        select i.node_key, sum(d.n_events) as n, bit_xor(d.fingerprint) as fingerprint
        from sluis_models.stg_identifier_days as d
        join sluis_models.stg_identifiers as i on i.identifier_set = d.identifier_set
        where d.purposes <> '' or d.denied <> ''
        group by i.node_key
    ) as told
    group by node_key
),

changed as (
    select node_key, fingerprint from told
),

repeated as (
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
    cross join unnest(split(c.purposes, ',')) as purpose
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
    cross join unnest(split(c.denied, ',')) as purpose
    where purpose <> ''
    group by c.node_key, purpose, c.decision_id, c.policy_version
),

latest as (
    select *
    from evidence
    where true
    qualify row_number() over (
        partition by node_key, purpose
        order by
            decided_at desc, case when granted then 1 else 0 end,
            decision_id nulls last, policy_version nulls last, signal nulls last
    ) = 1
)

select
    c.node_key,
    l.purpose,
    -- A row that does not say yes says no.
    coalesce(l.granted, false) as granted,
    l.decided_at,
    l.decision_id,
    l.policy_version,
    l.signal,
    c.fingerprint
from changed as c
left join latest as l on l.node_key = c.node_key
