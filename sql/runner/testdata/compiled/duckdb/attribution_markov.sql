-- How much rarer conversions would be without a channel, if people went from visit
-- to visit by the odds that journeys show: the removal effect of a Markov chain of
-- first order.
--
-- The chain's states are the start, 0, the channels, and the conversion. The
-- table `taken_k` has, for each two states, the weight of all ways from one to the
-- other over the channels up to k, however often; eliminating one channel after the
-- other solves the chain exactly, without anything to converge. A channel's effect
-- is then the part of the converting ways that lead over it.
with steps as (
    select
        j.*,
        lag(j.number) over (partition by j.kind, j.journey_id order by j.place) as number_before
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

-- From one visit to another by the same channel nothing changes.
moves as (
    select kind, coalesce(number_before, 0) as i, number as j, count(*) as times
    from steps
    where number_before is null or number_before <> number
    group by kind, coalesce(number_before, 0), number

    union all

    select kind, number as i, case when converted then 11 else -1 end as j, count(*) as times
    from steps
    where place = visits
    group by kind, number, case when converted then 11 else -1 end
),

odds as (
    select kind, i, j, times / nullif(sum(times) over (partition by kind, i), 0) as p
    from moves
),

taken_0 as materialized (
    select a.kind, a.i, b.j, coalesce(o.p, 0) as p
    from (select distinct kind, i from moves) as a
    join (select distinct kind, j from moves where j > 0) as b on b.kind = a.kind
    left join odds as o on o.kind = a.kind and o.i = a.i and o.j = b.j
),

to_1 as (
    select kind, i, j, p, coalesce(max(case when j = 1 then p end) over (partition by kind, i), 0) as p_to
    from taken_0
),

from_1 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 1 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_1
),

taken_1 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_1
),

to_2 as (
    select kind, i, j, p, coalesce(max(case when j = 2 then p end) over (partition by kind, i), 0) as p_to
    from taken_1
),

from_2 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 2 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_2
),

taken_2 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_2
),

to_3 as (
    select kind, i, j, p, coalesce(max(case when j = 3 then p end) over (partition by kind, i), 0) as p_to
    from taken_2
),

from_3 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 3 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_3
),

taken_3 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_3
),

to_4 as (
    select kind, i, j, p, coalesce(max(case when j = 4 then p end) over (partition by kind, i), 0) as p_to
    from taken_3
),

from_4 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 4 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_4
),

taken_4 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_4
),

to_5 as (
    select kind, i, j, p, coalesce(max(case when j = 5 then p end) over (partition by kind, i), 0) as p_to
    from taken_4
),

from_5 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 5 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_5
),

taken_5 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_5
),

to_6 as (
    select kind, i, j, p, coalesce(max(case when j = 6 then p end) over (partition by kind, i), 0) as p_to
    from taken_5
),

from_6 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 6 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_6
),

taken_6 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_6
),

to_7 as (
    select kind, i, j, p, coalesce(max(case when j = 7 then p end) over (partition by kind, i), 0) as p_to
    from taken_6
),

from_7 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 7 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_7
),

taken_7 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_7
),

to_8 as (
    select kind, i, j, p, coalesce(max(case when j = 8 then p end) over (partition by kind, i), 0) as p_to
    from taken_7
),

from_8 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 8 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_8
),

taken_8 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_8
),

to_9 as (
    select kind, i, j, p, coalesce(max(case when j = 9 then p end) over (partition by kind, i), 0) as p_to
    from taken_8
),

from_9 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 9 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_9
),

taken_9 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_9
),

to_10 as (
    select kind, i, j, p, coalesce(max(case when j = 10 then p end) over (partition by kind, i), 0) as p_to
    from taken_9
),

from_10 as (
    select kind, i, j, p, p_to, coalesce(max(case when i = 10 then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_10
),

taken_10 as materialized (
    select kind, i, j, p + p_to * p_from as p
    from from_10
),

solved as (
    select kind, i, j, p, max(case when i = 0 and j = 11 then p end) over (partition by kind) as p_conversion
    from taken_10
),

effects as (
    select
        kind,
        case when i = 0 then j else i end as number,
        max(case when i = 0 then p end) as p_visited,
        max(case when i = j then p end) as p_again,
        max(case when i > 0 and j = 11 then p end) as p_converts,
        max(p_conversion) as p_conversion
    from solved
    where i = j or i = 0 and j < 11 or i > 0 and j = 11
    group by kind, case when i = 0 then j else i end
),

removals as (
    select kind, number, p_visited / nullif(1 + p_again, 0) * p_converts / nullif(p_conversion, 0) as removal_effect
    from effects
    where p_conversion > 0
),

shares as (
    select r.kind, c.channel, r.removal_effect, r.removal_effect / nullif(sum(r.removal_effect) over (partition by r.kind), 0) as share
    from removals as r
    join (select distinct kind, number, channel from steps) as c on c.kind = r.kind and c.number = r.number
)

select
    kind,
    channel,
    removal_effect,
    cast(share + case when place = channels then 1 - sum(share) over (partition by kind) else 0 end as decimal(38, 9)) as share
from (
    select
        kind,
        channel,
        cast(removal_effect + 0.000000000001 as decimal(38, 9)) as removal_effect,
        cast(share + 0.000000000001 as decimal(38, 9)) as share,
        row_number() over (partition by kind order by share nulls last, channel) as place,
        count(*) over (partition by kind) as channels
    from shares
) as rounded
