{#- How often something was done by people who did not agree to be followed, for
    whoever may see numbers. No row counts fewer than counts_min_cell events. -#}
{%- set smallest = var('counts_min_cell') -%}
-- What is too small joins the rest one level up: of its page over all devices, of
-- its event over all pages, of its source over all events. So the rows count
-- disjoint events: no sum or difference of them counts anything else, and what is
-- too small even at the top is in none. There are no totals, which would tell it.
-- An hour appears once it is over and has settled, or a later look would show
-- how it grew.
with latest as (
    select max(minute) as minute
    from {{ source('sluis', 'ledger') }}
),

cells as (
    select
        c.hour,
        c.source_id,
        c.type,
        c.event,
        c.page,
        c.device_class,
        sum(c.n) as n
    from {{ source('sluis', 'counts') }} as c
    cross join latest
    where c.hour <= {{ hours_before('latest.minute', var('counts_settle_hours') + 1) }}
    group by c.hour, c.source_id, c.type, c.event, c.page, c.device_class
),

rest_of_page as (
    select hour, source_id, type, event, page, sum(n) as n
    from cells
    where n < {{ smallest }}
    group by hour, source_id, type, event, page
),

rest_of_event as (
    select hour, source_id, type, event, sum(n) as n
    from rest_of_page
    where n < {{ smallest }}
    group by hour, source_id, type, event
),

rest_of_source as (
    select hour, source_id, sum(n) as n
    from rest_of_event
    where n < {{ smallest }}
    group by hour, source_id
),

published as (
    select hour, source_id, 'device' as detail, type, event, page, device_class, n
    from cells

    union all

    select hour, source_id, 'page' as detail, type, event, page, cast(null as string) as device_class, n
    from rest_of_page

    union all

    select
        hour,
        source_id,
        'event' as detail,
        type,
        event,
        cast(null as string) as page,
        cast(null as string) as device_class,
        n
    from rest_of_event

    union all

    select
        hour,
        source_id,
        'source' as detail,
        cast(null as string) as type,
        cast(null as string) as event,
        cast(null as string) as page,
        cast(null as string) as device_class,
        n
    from rest_of_source
)

select
    hour,
    source_id,
    detail,
    type,
    event,
    page,
    device_class,
    cast(n as int64) as n
from published
where n >= {{ smallest }}
