-- What a channel adds to the rate at which journeys convert, averaged over all
-- orders in which channels could have joined: the Shapley value of rates.
--
-- A set of channels is worth the best rate of the journeys over exactly these
-- channels, or over some of them: what some can do, more can. So it is known of sets
-- that no journey has, and no channel is worth less than nothing. Sets are numbers
-- here, with a bit for each channel.
with channels as (
    select 1 as number, cast(1 as int64) as bit
    union all select 2 as number, cast(2 as int64) as bit
    union all select 3 as number, cast(2 * 2 as int64) as bit
    union all select 4 as number, cast(2 * 2 * 2 as int64) as bit
    union all select 5 as number, cast(2 * 2 * 2 * 2 as int64) as bit
    union all select 6 as number, cast(2 * 2 * 2 * 2 * 2 as int64) as bit
    union all select 7 as number, cast(2 * 2 * 2 * 2 * 2 * 2 as int64) as bit
    union all select 8 as number, cast(2 * 2 * 2 * 2 * 2 * 2 * 2 as int64) as bit
    union all select 9 as number, cast(2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 as int64) as bit
    union all select 10 as number, cast(2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 as int64) as bit
),

visited as (
    select distinct kind, journey_id, converted, channel, number
    from (
        select
            j.kind,
            j.journey_id,
            j.place,
            j.visits,
            j.outcome = 'converted' as converted,
            case when r.number < 10 or r.channels <= 10 then j.channel else 'other channels' end as channel,
            case when r.number < 10 then r.number else 10 end as number
        from sluis_models.attribution_journeys as j
        join (
            select
                kind,
                channel,
                row_number() over (partition by kind order by count(*) desc, channel) as number,
                count(*) over (partition by kind) as channels
            from sluis_models.attribution_journeys
            where outcome <> 'open'
            group by kind, channel
        ) as r on r.kind = j.kind and r.channel = j.channel
        where j.outcome <> 'open'
    ) as j
),

journeys as (
    select v.kind, v.journey_id, v.converted, cast(sum(c.bit) as int64) as visited
    from visited as v
    join channels as c on c.number = v.number
    group by v.kind, v.journey_id, v.converted
),

rates as (
    select kind, visited, countif(converted) / nullif(count(*), 0) as rate
    from journeys
    group by kind, visited
),

coalitions as (
    select
        b1.bit + b2.bit + b3.bit + b4.bit + b5.bit + b6.bit + b7.bit + b8.bit + b9.bit + b10.bit as members,
        b1.one + b2.one + b3.one + b4.one + b5.one + b6.one + b7.one + b8.one + b9.one + b10.one as size
    from (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 1) as b1
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 2) as b2
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 3) as b3
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 4) as b4
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 5) as b5
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 6) as b6
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 7) as b7
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 8) as b8
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 9) as b9
    cross join (select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = 10) as b10
),

worth as (
    select r.kind, c.members, c.size, max(r.rate) as worth
    from coalitions as c
    join rates as r on (r.visited & c.members) = r.visited
    group by r.kind, c.members, c.size
),

-- How many of all orders have the other members of a set, and none else, before a
-- channel: what the set is worth counts for its last one, and against the next.
orders as (
    select 0 as size, 0 as joined, 1 / 10 as missing
    union all select 1 as size, 1 / 10 as joined, 1 / 90 as missing
    union all select 2 as size, 1 / 90 as joined, 1 / 360 as missing
    union all select 3 as size, 1 / 360 as joined, 1 / 840 as missing
    union all select 4 as size, 1 / 840 as joined, 1 / 1260 as missing
    union all select 5 as size, 1 / 1260 as joined, 1 / 1260 as missing
    union all select 6 as size, 1 / 1260 as joined, 1 / 840 as missing
    union all select 7 as size, 1 / 840 as joined, 1 / 360 as missing
    union all select 8 as size, 1 / 360 as joined, 1 / 90 as missing
    union all select 9 as size, 1 / 90 as joined, 1 / 10 as missing
    union all select 10 as size, 1 / 10 as joined, 0 as missing
),

additions as (
    select
        w.kind,
        c.number,
        sum(w.worth * case when (w.members & c.bit) <> 0 then o.joined else -o.missing end) as rate_added
    from worth as w
    join orders as o on o.size = w.size
    cross join channels as c
    group by w.kind, c.number
),

shares as (
    select a.kind, v.channel, a.rate_added, a.rate_added / nullif(sum(a.rate_added) over (partition by a.kind), 0) as share
    from additions as a
    join (select distinct kind, number, channel from visited) as v on v.kind = a.kind and v.number = a.number
    where a.kind in (select kind from rates where rate > 0)
)

select
    kind,
    channel,
    rate_added,
    cast(share + case when place = channels then 1 - sum(share) over (partition by kind) else 0 end as decimal(38, 9)) as share
from (
    select
        kind,
        channel,
        cast(rate_added + 0.000000000001 as decimal(38, 9)) as rate_added,
        cast(share + 0.000000000001 as decimal(38, 9)) as share,
        row_number() over (partition by kind order by share nulls last, channel) as place,
        count(*) over (partition by kind) as channels
    from shares
) as rounded
