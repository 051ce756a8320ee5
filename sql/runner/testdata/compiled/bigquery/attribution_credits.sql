-- Which visits of its journey a conversion is owed to, by each model that looks at
-- one journey at a time. Credits are decimals, of which the last visit
-- takes what rounding leaves, and a conversion without a visit is unattributed: so
-- for every model credits add up to the conversions, and values to the revenue.
-- A run shares out those conversions anew whose value or visits are others than
-- they were shared out by.
with said as (
    select
        c.conversion_id,
        farm_fingerprint(concat(cast(c.conversion_id as string), ' ', cast(coalesce(c.value, 0) as string), ' ', cast(coalesce(j.n, 0) as string), ' ', cast(coalesce(j.fingerprint, 0) as string), ' ', cast('43428a7c512a9b8c3547603319854415' as string))) as fingerprint
    from sluis_models.conversions as c
    left join (
        select
            conversion_id,
            count(*) as n,
            bit_xor(farm_fingerprint(concat(cast(coalesce(session_id, '') as string), ' ', cast(coalesce(place, 0) as string), ' ', cast(coalesce(unix_micros(started_at), 0) as string), ' ', cast(coalesce(unix_micros(converted_at), 0) as string), ' ', cast(coalesce(channel, '') as string), ' ', cast(coalesce(campaign, '') as string)))) as fingerprint
        from sluis_models.attribution_journeys
        where conversion_id is not null
        group by conversion_id
    ) as j on j.conversion_id = c.conversion_id
),

changed as (
    select conversion_id, fingerprint from said
),

owed as (
    select c.conversion_id, c.value
    from sluis_models.conversions as c
    join changed as h on h.conversion_id = c.conversion_id
),

journeys as (
    select
        j.conversion_id,
        c.value,
        j.session_id,
        j.channel,
        j.campaign,
        (unix_micros(j.converted_at) - unix_micros(j.started_at)) / 86400000000 as age_days,
        j.place,
        j.visits,
        count(*) over (partition by j.conversion_id, j.channel) as of_channel
    from sluis_models.attribution_journeys as j
    join owed as c on c.conversion_id = j.conversion_id
),

placed as (
    select
        j.*,
        max(case when j.channel <> 'direct' then j.place end) over (partition by j.conversion_id) as non_direct
    from journeys as j
),

models as (
    select 'first' as model
    union all select 'last' as model
    union all select 'last_non_direct' as model
    union all select 'linear' as model
    union all select 'position' as model
    union all select 'time_decay' as model
    union all select 'shapley' as model
),

weighted as (
    select
        p.*,
        m.model,
        case m.model
            when 'first' then case when p.place = 1 then 1 else 0 end
            when 'last' then case when p.place = p.visits then 1 else 0 end
            -- A visit by the bookmark tells nothing, unless there is no other.
            when 'last_non_direct' then case when p.place = coalesce(p.non_direct, p.visits) then 1 else 0 end
            when 'linear' then 1
            -- 40 % each for the first and the last, and the rest for those between.
            when 'position' then case when p.visits <= 2 then 1 when p.place in (1, p.visits) then 0.4 else 0.2 / nullif(p.visits - 2, 0) end
            when 'time_decay' then power(0.5, p.age_days / 7)
            -- Each channel the same: the Shapley value, if what counts of a set of channels is how many conversions needed no other.
            when 'shapley' then 1 / nullif(p.of_channel, 0)
        end as weight
    from placed as p
    cross join models as m
),

fractions as (
    select
        w.*,
        w.weight / nullif(sum(w.weight) over (partition by w.conversion_id, w.model), 0) as fraction
    from weighted as w
),

rounded as (
    select
        f.*,
        cast(f.fraction as numeric) as share,
        cast(cast(f.value as float64) * f.fraction as numeric) as part
    from fractions as f
),

credits as (
    select
        r.conversion_id,
        r.model,
        r.session_id,
        r.channel,
        r.campaign,
        cast(r.share + case when r.place = r.visits then 1 - sum(r.share) over (partition by r.conversion_id, r.model) else 0 end as numeric) as credit,
        cast(r.part + case when r.place = r.visits then r.value - sum(r.part) over (partition by r.conversion_id, r.model) else 0 end as numeric) as value
    from rounded as r
),

shared as (
    select conversion_id, model, session_id, channel, campaign, credit, value
    from credits
    where credit <> 0 or value <> 0

    union all

    select
        c.conversion_id,
        m.model,
        cast(null as string) as session_id,
        'unattributed' as channel,
        cast(null as string) as campaign,
        cast(1 as numeric) as credit,
        cast(c.value as numeric) as value
    from owed as c
    cross join models as m
    left join (select distinct conversion_id from journeys) as j on j.conversion_id = c.conversion_id
    where j.conversion_id is null
)

-- A conversion that is no more has a row of nothing else, by which its old ones go.
select
    h.conversion_id,
    s.model,
    s.session_id,
    s.channel,
    s.campaign,
    s.credit,
    s.value,
    h.fingerprint
from changed as h
left join shared as s on s.conversion_id = h.conversion_id
