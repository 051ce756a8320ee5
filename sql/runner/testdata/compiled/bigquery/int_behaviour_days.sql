-- What the events of a day say of behaviour, of those that were collected for
-- analytics, added up by set of identifiers: what is counted of people by day is
-- made of this, and reads no events. Whose the sets are, and whether they still
-- agree, is for whoever reads it. A run adds up anew the days that something
-- changed on.
-- depends_on: sluis_models.stg_identifier_days
select
    cast(e.received_at as date) as landed_on,
    e.identifier_set,
    date(e.occurred_at, 'UTC') as day,
    -- What is yet to come, as seen from the moment that windows end at.
    e.occurred_at >= current_timestamp() as is_later,
    'f56b01fde4252773f0aebfbb089b09ed' as definition,
    -- For each thing asked 1, if one of the events is such, or 0.
    concat(coalesce(max(case when true then '1' else '0' end), '0'), coalesce(max(case when true then '1' else '0' end), '0'), coalesce(max(case when event = 'Live Chat Started' then '1' else '0' end), '0')) as did,
    cast(count(*) as int64) as n_events,
    cast(count(case when e.type = 'page' then 1 end) as int64) as pages,
    cast(count(case when e.event = 'Live Chat Started' then 1 end) as int64) as chats,
    array_agg(e.page_path ignore nulls order by e.occurred_at desc, e.event_id desc limit 1)[safe_offset(0)] as last_page_path,
    max(case when e.page_path is not null then e.occurred_at end) as last_page_at,
    array_agg(case when e.page_path is not null then e.event_id end ignore nulls order by e.occurred_at desc, e.event_id desc limit 1)[safe_offset(0)] as last_page_event_id,
    array_agg(e.utm_source ignore nulls order by e.occurred_at, e.event_id limit 1)[safe_offset(0)] as first_utm_source,
    min(case when e.utm_source is not null then e.occurred_at end) as first_utm_at,
    array_agg(case when e.utm_source is not null then e.event_id end ignore nulls order by e.occurred_at, e.event_id limit 1)[safe_offset(0)] as first_utm_event_id,
    bit_xor(farm_fingerprint(concat(cast(e.event_id as string), ' ', cast(coalesce(e.spool_id, '') as string), ' ', cast(coalesce(e.spool_offset, 0) as string)))) as fingerprint
from sluis_models.stg_events as e
where not e.is_bot and e.identifier_set <> '' and coalesce('analytics' in unnest(e.purposes), false)
group by landed_on, identifier_set, day, is_later
