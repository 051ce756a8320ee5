-- To which steps of the funnels of the var funnels each person came, by the day on
-- which they began: one after the other, each later than the one before, and all
-- within the funnel's hours of the beginning. A run makes those of people anew of
-- whom something changed. Somebody who came to no step has a row without a day.
--
-- Of each event the query finds the earliest next steps, from the last step to the
-- first: with `next_2`, say, every event knows when the third step from the end came
-- after it, and when the rest came after that.
with usable as (
    select profile_id, sum(n_events) as n_events, bit_xor(fingerprint) as fingerprint
    from (
    select o.profile_id, b.*
    from sluis_models.int_behaviour_days as b
    join sluis_models.identifier_owners as o on o.identifier_set = b.identifier_set
    join sluis_models.consent_profile as c on c.profile_id = o.profile_id and c.purpose = 'analytics' and c.allowed
) as b
    where not is_later
    group by profile_id
),

wanted as (
    select profile_id from usable
),

matched as (
    select
        profile_id,
        coalesce(unix_micros(occurred_at), 0) as moment,
        date(occurred_at, 'UTC') as day,
        coalesce(type = 'page', false) as is_1_1,
        coalesce(event = 'Product Viewed', false) as is_1_2,
        coalesce(event = 'Checkout Started', false) as is_1_3,
        coalesce(event = 'Order Completed', false) as is_1_4
    from (
    select e.*
    from sluis_models.profile_events as e
    join wanted as w on w.profile_id = e.profile_id
    where coalesce('analytics' in unnest(e.purposes), false) and e.occurred_at < current_timestamp()
) as e
),

next_0 as (
    select * from matched
    where false
        or is_1_1
        or is_1_2
        or is_1_3
        or is_1_4
),

next_1 as (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_4 then moment end) over later as at_1_4
    from next_0
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

next_2 as (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_3 then moment end) over later as at_1_3,
        min(case when is_1_3 then at_1_4 end) over later as at_1_4
    from next_1
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

next_3 as (
    select
        profile_id,
        moment,
        day,
        is_1_1,
        is_1_2,
        is_1_3,
        is_1_4,
        min(case when is_1_2 then moment end) over later as at_1_2,
        min(case when is_1_2 then at_1_3 end) over later as at_1_3,
        min(case when is_1_2 then at_1_4 end) over later as at_1_4
    from next_2
    window later as (partition by profile_id order by moment range between 1 following and unbounded following)
),

farthest as (
    select
        profile_id,
        day,
        concat(
            coalesce(max(case when is_1_1 then '1' else '0' end), '0'),
            coalesce(max(case when is_1_1 and at_1_2 - moment <= 168 * 3600000000 then '1' else '0' end), '0'),
            coalesce(max(case when is_1_1 and at_1_3 - moment <= 168 * 3600000000 then '1' else '0' end), '0'),
            coalesce(max(case when is_1_1 and at_1_4 - moment <= 168 * 3600000000 then '1' else '0' end), '0')
        ) as came
    from next_3
    group by profile_id, day
)

select
    c.profile_id,
    f.day,
    f.came,
    cast(c.n_events as int64) as n_events,
    c.fingerprint,
    '51c48e1f6dec3b6b3981d254a1a69674' as definition
from usable as c
left join farthest as f on f.profile_id = c.profile_id
