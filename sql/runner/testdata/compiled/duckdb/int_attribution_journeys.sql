-- The visits of journeys, as attribution_journeys has them, without what time alone
-- changes. A conversion's journey are the visits of the same person, on whatever
-- device, that began in the days before, the one in which it happened among them.
-- Two conversions may share a visit. What no conversion of a kind took is a journey
-- without one, also of people who convert at other times; it ends where a visit
-- could not have counted for a later one.
-- A run makes the journeys of those people anew of whom a visit or a conversion is
-- another, or its channel, than the journeys are made of.
with visits as (
    select m.profile_id, s.session_id, s.started_at, s.channel, s.utm_campaign as campaign
    from sluis_models.sessions as s
    join sluis_models.identity_map as m on m.node_key = s.node_key
),

conversions as (
    select profile_id, kind, conversion_id, converted_at from sluis_models.conversions
),

said as (
    select v.profile_id, cast(hash(v.n, coalesce(v.fingerprint, 0), coalesce(c.n, 0), coalesce(c.fingerprint, 0)) >> 1 as int64) as fingerprint
    from (
        select
            profile_id,
            count(*) as n,
            bit_xor(cast(hash(session_id, coalesce(epoch_us(started_at), 0), channel, coalesce(campaign, '')) >> 1 as int64)) as fingerprint
        from visits
        group by profile_id
    ) as v
    left join (
        select profile_id, count(*) as n, bit_xor(cast(hash(coalesce(kind, ''), conversion_id, coalesce(epoch_us(converted_at), 0)) >> 1 as int64)) as fingerprint
        from conversions
        group by profile_id
    ) as c on c.profile_id = v.profile_id
),

changed as (
    select profile_id, fingerprint from said
),

wanted as (
    select v.* from visits as v join changed as c on c.profile_id = v.profile_id
),

kinds as (
    select 'Order Completed' as kind
),

converting as (
    select c.kind, c.conversion_id, c.converted_at, v.profile_id, v.session_id, v.started_at, v.channel, v.campaign
    from conversions as c
    join wanted as v on v.profile_id = c.profile_id
    where v.started_at <= c.converted_at
        and v.started_at >= (c.converted_at + to_hours(-24 * 30))
),

others as (
    select k.kind, v.*
    from wanted as v
    cross join kinds as k
    left join (select distinct kind, session_id from converting) as t on t.kind = k.kind and t.session_id = v.session_id
    where t.session_id is null
),

spaced as (
    select
        o.*,
        epoch_us(o.started_at) - lag(epoch_us(o.started_at)) over (partition by o.kind, o.profile_id order by o.started_at, o.session_id) as gap
    from others as o
),

cut as (
    select
        s.*,
        sum(case when s.gap > 2592000000000 then 1 else 0 end)
            over (partition by s.kind, s.profile_id order by s.started_at, s.session_id rows between unbounded preceding and current row) as run
    from spaced as s
),named as (
    select
        c.*,
        row_number() over (partition by c.kind, c.profile_id, c.run order by c.started_at, c.session_id) as place,
        count(*) over (partition by c.kind, c.profile_id, c.run order by c.started_at, c.session_id rows between unbounded preceding and unbounded following) as visits,
        first_value(c.session_id) over (partition by c.kind, c.profile_id, c.run order by c.started_at, c.session_id rows between unbounded preceding and unbounded following) as first_session_id,
        last_value(c.started_at) over (partition by c.kind, c.profile_id, c.run order by c.started_at, c.session_id rows between unbounded preceding and unbounded following) as last_started_at
    from cut as c
),

together as (
    select
        conversion_id as journey_id,
        kind,
        profile_id,
        conversion_id,
        converted_at,
        row_number() over (partition by conversion_id order by started_at, session_id) as place,
        count(*) over (partition by conversion_id) as visits,
        session_id,
        started_at,
        cast(null as timestamptz) as last_started_at,
        channel,
        campaign
    from converting

    union all

    select
        concat(coalesce(first_session_id, ''), ' ', kind) as journey_id,
        kind,
        profile_id,
        cast(null as string) as conversion_id,
        cast(null as timestamptz) as converted_at,
        place,
        visits,
        session_id,
        started_at,
        last_started_at,
        channel,
        campaign
    from named
)

select
    t.journey_id,
    t.kind,
    c.profile_id,
    t.conversion_id,
    t.converted_at,
    t.place,
    t.visits,
    t.session_id,
    t.started_at,
    t.last_started_at,
    t.channel,
    t.campaign,
    c.fingerprint,
    '3a64b4be3bcc295e3fa8186a657abdb6' as definition
from changed as c
left join together as t on t.profile_id = c.profile_id
