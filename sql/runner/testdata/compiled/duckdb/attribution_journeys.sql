-- The visits that lead to a conversion, and those that lead to none, in their
-- order: a row for each visit, since a path in a text cannot be told from another
-- whose channels have its separator in their names.
--
-- A conversion's journey are the visits of the same person, on whatever device,
-- that began in the days before, the one in which it happened among them. Two
-- conversions may share a visit. What no conversion of a kind took is a journey
-- without one, also of people who convert at other times; it ends where a visit
-- could not have counted for a later one, and is lost once none can come.
with visits as (
    select m.profile_id, s.session_id, s.started_at, s.channel, s.utm_campaign as campaign
    from sluis_models.sessions as s
    join sluis_models.identity_map as m on m.node_key = s.node_key
),

kinds as (
    select 'Order Completed' as kind
),

converting as (
    select c.kind, c.conversion_id, c.converted_at, v.profile_id, v.session_id, v.started_at, v.channel, v.campaign
    from sluis_models.conversions as c
    join visits as v on v.profile_id = c.profile_id
    where v.started_at <= c.converted_at
        and v.started_at >= (c.converted_at + to_hours(-24 * 30))
),

others as (
    select k.kind, v.*
    from visits as v
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
)

select
    conversion_id as journey_id,
    kind,
    profile_id,
    conversion_id,
    converted_at,
    'converted' as outcome,
    row_number() over (partition by conversion_id order by started_at, session_id) as place,
    count(*) over (partition by conversion_id) as visits,
    session_id,
    started_at,
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
    case when last_started_at < (now() + to_hours(-24 * 30)) then 'lost' else 'open' end as outcome,
    place,
    visits,
    session_id,
    started_at,
    channel,
    campaign
from named
