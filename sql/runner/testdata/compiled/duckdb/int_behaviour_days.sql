-- What the events of a day say of behaviour, of those that were collected for
-- analytics, added up by set of identifiers: what is counted of people by day is
-- made of this, and reads no events. Whose the sets are, and whether they still
-- agree, is for whoever reads it. A run adds up anew the days that something
-- changed on.
-- depends_on: sluis_models.stg_identifier_days
select
    cast(e.received_at as date) as landed_on,
    e.identifier_set,
    cast(timezone('UTC', e.occurred_at) as date) as day,
    -- What is yet to come, as seen from the moment that windows end at.
    e.occurred_at >= now() as is_later,
    'f56b01fde4252773f0aebfbb089b09ed' as definition,
    -- For each thing asked 1, if one of the events is such, or 0.
    concat(coalesce(max(case when true then '1' else '0' end), '0'), coalesce(max(case when true then '1' else '0' end), '0'), coalesce(max(case when event = 'Live Chat Started' then '1' else '0' end), '0')) as did,
    cast(count(*) as int64) as n_events,
    cast(count(case when e.type = 'page' then 1 end) as int64) as pages,
    cast(count(case when e.event = 'Live Chat Started' then 1 end) as int64) as chats,
    arg_max(e.page_path, row(e.occurred_at, e.event_id)) filter (where e.page_path is not null) as last_page_path,
    max(case when e.page_path is not null then e.occurred_at end) as last_page_at,
    arg_max(case when e.page_path is not null then e.event_id end, row(e.occurred_at, e.event_id)) filter (where case when e.page_path is not null then e.event_id end is not null) as last_page_event_id,
    arg_min(e.utm_source, row(e.occurred_at, e.event_id)) filter (where e.utm_source is not null) as first_utm_source,
    min(case when e.utm_source is not null then e.occurred_at end) as first_utm_at,
    arg_min(case when e.utm_source is not null then e.event_id end, row(e.occurred_at, e.event_id)) filter (where case when e.utm_source is not null then e.event_id end is not null) as first_utm_event_id,
    bit_xor(cast(hash(e.event_id, coalesce(e.spool_id, ''), coalesce(e.spool_offset, 0)) >> 1 as int64)) as fingerprint
from sluis_models.stg_events as e
where not e.is_bot and e.identifier_set <> '' and coalesce(list_contains(e.purposes, 'analytics'), false)
group by landed_on, identifier_set, day, is_later
