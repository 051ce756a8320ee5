-- Every identifier seen on an event. What a bot did belongs to nobody.
select
    e.event_id,
    identifier.pseudonym as node_key,
    min(identifier.kind) as id_type,
    min(e.occurred_at) as occurred_at,
    min(e.received_at) as received_at,
    min(e.source_id) as source_id
from sluis_models.stg_events as e
cross join unnest(e.identifiers) as identifier
where identifier.pseudonym is not null and not e.is_bot
group by e.event_id, identifier.pseudonym
