-- How many people used each feature of the var features on each whole day, and in
-- the 7 and 30 days that end with it. The share of the month's people who come on a
-- day tells whether it became a habit.
--
-- Somebody counts from a day on for so many days, or until the day they come again,
-- from which on that counts: so a running sum of who begins and who ends counts
-- each person once, without looking at each day's month anew.
with coming as (
    select profile_id, day, did from (
    select o.profile_id, b.*
    from sluis_models.int_behaviour_days as b
    join sluis_models.identifier_owners as o on o.identifier_set = b.identifier_set
    join sluis_models.consent_profile as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
) as b where not is_later
),

used as (
    select distinct f.feature, c.profile_id, date_diff('day', date '1970-01-01', c.day) as n
    from coming as c
    -- Of what int_behaviour_days asks, the first is not a feature.
    join (
        select 'anything' as feature, 2 as place
        union all select 'live chat' as feature, 3 as place
    ) as f on substr(c.did, f.place, 1) = '1'
),

returning_on as (
    select feature, n, lead(n) over (partition by feature, profile_id order by n nulls last) as next_n
    from used
),

changes as (
    select feature, n, 1 as d_1, 1 as d_7, 1 as d_30 from returning_on
    union all
    select feature, case when next_n < n + 1 then next_n else n + 1 end as n, -1 as d_1, 0 as d_7, 0 as d_30 from returning_on
    union all
    select feature, case when next_n < n + 7 then next_n else n + 7 end as n, 0 as d_1, -1 as d_7, 0 as d_30 from returning_on
    union all
    select feature, case when next_n < n + 30 then next_n else n + 30 end as n, 0 as d_1, 0 as d_7, -1 as d_30 from returning_on
),

changed as (
    select feature, n, sum(d_1) as d_1, sum(d_7) as d_7, sum(d_30) as d_30
    from changes
    group by feature, n
),

days as (
    select cast(day as date) as day from generate_series((select min(day) from coming), cast(timezone('UTC', (now() + to_hours(-24))) as date), interval 1 day) as series(day)
),

summed as (
    select
        d.day,
        f.feature,
        sum(coalesce(c.d_1, 0)) over (partition by f.feature order by d.day nulls last rows between unbounded preceding and current row) as people_1,
        sum(coalesce(c.d_7, 0)) over (partition by f.feature order by d.day nulls last rows between unbounded preceding and current row) as people_7,
        sum(coalesce(c.d_30, 0)) over (partition by f.feature order by d.day nulls last rows between unbounded preceding and current row) as people_30
    from days as d
    cross join (
        select 'anything' as feature
        union all select 'live chat' as feature
    ) as f
    left join changed as c on c.feature = f.feature and c.n = date_diff('day', date '1970-01-01', d.day)
)

select
    feature,
    day,
    cast(people_1 as int64) as dau,
    cast(people_7 as int64) as wau,
    cast(people_30 as int64) as mau,
    cast(cast(people_1 as double) / nullif(cast(people_30 as double), 0) as decimal(38, 9)) as stickiness
from summed
