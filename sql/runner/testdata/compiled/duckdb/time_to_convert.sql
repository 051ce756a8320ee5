-- How long it takes from the first visit of a journey to its conversion, and how
-- many visits, by the channel of the first: the median, and what nine of ten do
-- not exceed.
with journeys as (
    select
        kind,
        journey_id,
        visits,
        min(case when place = 1 then channel end) as channel,
        max(converted_at) as converted_at,
        min(started_at) as started_at
    from sluis_models.attribution_journeys
    where outcome = 'converted'
    group by kind, journey_id, visits
),

ranked as (
    select
        kind,
        channel,
        visits,
        cast((epoch_us(converted_at) - epoch_us(started_at)) / 3600000000 as decimal(38, 9)) as hours,
        row_number() over (partition by kind, channel order by epoch_us(converted_at) - epoch_us(started_at) nulls last, journey_id) as by_hours,
        row_number() over (partition by kind, channel order by visits, journey_id) as by_visits,
        count(*) over (partition by kind, channel) as n
    from journeys
)

select
    kind,
    channel,
    cast(count(*) as int64) as conversions,
    min(case when 2 * by_hours >= n then hours end) as hours_p50,
    min(case when 10 * by_hours >= 9 * n then hours end) as hours_p90,
    min(case when 2 * by_visits >= n then visits end) as visits_p50,
    min(case when 10 * by_visits >= 9 * n then visits end) as visits_p90
from ranked
group by kind, channel
