{#- The queries of stg_consent, up to `evidence`: of all identifiers, or of those in
    the query `of` alone. -#}
{% macro consent_evidence(of='') -%}
repeated as (
    select
        identifier_set,
        decision_id,
        policy_version,
        purposes,
        denied,
        max(last_occurred_at) as last_occurred_at,
        max(last_received_at) as last_received_at
    from {{ ref('stg_identifier_days') }}
    where identifier_set <> '' and (purposes <> '' or denied <> '')
    group by identifier_set, decision_id, policy_version, purposes, denied
),

carried as (
    select i.node_key, r.*
    from repeated as r
    join {{ ref('stg_identifiers') }} as i on i.identifier_set = r.identifier_set
    {%- if of %}
    join {{ of }} as o on o.node_key = i.node_key
    {%- endif %}
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
    from {{ source('sluis', 'consents') }}
    where pseudonym is not null and purpose is not null
        {%- if of %}
        and pseudonym in (select node_key from {{ of }})
        {%- endif %}

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
    cross join {{ unnest("split(c.purposes, ',')", 'purpose') }}
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
    cross join {{ unnest("split(c.denied, ',')", 'purpose') }}
    where purpose <> ''
    group by c.node_key, purpose, c.decision_id, c.policy_version
)
{%- endmacro %}

{#- What there is to say of each identifier on consent, as one number, which is another
    if any of it is another: node_key and fingerprint. -#}
{% macro consent_fingerprints() -%}
select node_key, {{ fingerprint(['coalesce(sum(n), 0)', 'coalesce(bit_xor(fingerprint), 0)']) }} as fingerprint
from (
    select
        pseudonym as node_key,
        count(*) as n,
        bit_xor({{ fingerprint(["coalesce(spool_id, '')", 'coalesce(spool_offset, 0)', 'purpose', 'coalesce(granted, false)', 'coalesce(' ~ micros('decided_at') ~ ', 0)', "coalesce(decision_id, '')", "coalesce(policy_version, '')", "coalesce(signal, '')"]) }}) as fingerprint
    from {{ source('sluis', 'consents') }}
    where pseudonym is not null and purpose is not null
    group by pseudonym

    union all

    select i.node_key, sum(d.n_events) as n, bit_xor(d.fingerprint) as fingerprint
    from {{ ref('stg_identifier_days') }} as d
    join {{ ref('stg_identifiers') }} as i on i.identifier_set = d.identifier_set
    where d.purposes <> '' or d.denied <> ''
    group by i.node_key
) as told
group by node_key
{%- endmacro %}
