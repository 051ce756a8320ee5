-- What the events of a day say of identifiers and of consent, added up: a visit is
-- a row or two here. Whatever is said of people as a whole is made of this, and
-- reads no events. A run adds up anew the days that something changed on.
select
    cast(e.received_at as date) as landed_on,
    e.identifier_set,
    e.is_bot,
    coalesce(e.type, '') = 'alias' as is_alias,
    coalesce(array_to_string(e.purposes, ','), '') as purposes,
    coalesce(array_to_string(e.denied, ','), '') as denied,
    e.decision_id,
    e.policy_version,
    cast(count(*) as int64) as n_events,
    min(e.occurred_at) as first_occurred_at,
    max(e.occurred_at) as last_occurred_at,
    max(e.received_at) as last_received_at,
    bit_xor(farm_fingerprint(concat(cast(e.event_id as string), ' ', cast(coalesce(e.spool_id, '') as string), ' ', cast(coalesce(e.spool_offset, 0) as string)))) as fingerprint
from sluis_models.stg_events as e
group by landed_on, identifier_set, is_bot, is_alias, purposes, denied, decision_id, policy_version
