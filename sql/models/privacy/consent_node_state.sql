{{ config(
    materialized='incremental',
    on_schema_change='fail',
    incremental_strategy=replace_groups(),
    unique_key='node_key',
    post_hook="{{ remove_husks('purpose') }}"
) }}
-- The latest word of each identifier on each purpose, of what stg_consent has. Of
-- two at the same time the refusal counts. A run looks anew at those identifiers of
-- which there is other evidence than what their words were found in.
with told as (
    {{ consent_fingerprints() | indent(4) }}
),

{{ changed_keys('told', 'node_key') }}

{{ consent_evidence('changed' if is_incremental() else '') }},

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
