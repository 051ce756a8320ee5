-- What each run of the models changed about what days are attributed: late events,
-- a login that links two devices, a refund, a withdrawal or other settings change
-- numbers that were read before. Rows are differences, so that they add up to the
-- credits of now; nothing else remembers that, so it is never built anew.
with known as (select
        cast(null as string) as restatement_id, cast(null as int64) as run, current_timestamp() as noticed_at, c.conversion_date as day, a.model,
        c.kind, a.channel, c.currency, a.credit as conversions, a.value
    from sluis_models.attribution_credits as a
    join sluis_models.conversions as c on c.conversion_id = a.conversion_id
    where false
),

changes as (
    select day, model, kind, channel, currency, sum(sides.conversions) as conversions, sum(sides.value) as value
    from (
        select c.conversion_date as day, a.model, c.kind, a.channel, c.currency, a.credit as conversions, a.value
        from sluis_models.attribution_credits as a
        join sluis_models.conversions as c on c.conversion_id = a.conversion_id

        union all

        select day, model, kind, channel, currency, -conversions as conversions, -value as value
        from known
    ) as sides
    group by day, model, kind, channel, currency
    having sum(sides.conversions) <> 0 or sum(sides.value) <> 0
),

numbered as (
    select
        c.*,
        (select coalesce(max(run), 0) + 1 from known) as run,
        (select date(max(noticed_at), 'UTC') from known) as last_noticed_on,
        row_number() over (order by c.day nulls last, c.model, c.kind, c.channel, c.currency) as place
    from changes as c
)

select
    cast(run as string) || '-' || cast(place as string) as restatement_id,
    cast(run as int64) as run,
    current_timestamp() as noticed_at,
    day,
    model,
    kind,
    channel,
    currency,
    conversions,
    value,
    coalesce(day < last_noticed_on, false) as is_restated
from numbered
