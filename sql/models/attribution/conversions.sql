-- What people did that is worth attributing: the events of the var conversions,
-- collected for analytics. An order that two sources report, such as the browser
-- and the server, counts once, as it happened first.
select
    event_id as conversion_id,
    profile_id,
    event as kind,
    occurred_at as converted_at,
    {{ local_date('occurred_at') }} as conversion_date,
    {{ json_text('properties', '$.order_id') }} as order_id,
    coalesce({{ json_number('properties', '$.total') }}, {{ json_number('properties', '$.value') }}, 0) as value,
    upper({{ json_text('properties', '$.currency') }}) as currency
from {{ consented_events('analytics') }} as e
where event in ('{{ var('conversions') | join("', '") }}') and occurred_at < {{ as_of() }}
qualify row_number() over (
    partition by event, coalesce({{ json_text('properties', '$.order_id') }}, event_id)
    order by occurred_at, event_id, profile_id
) = 1
