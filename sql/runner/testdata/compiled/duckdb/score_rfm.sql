-- Customers by recency, frequency and monetary value, each in fifths of all: 5 is the
-- best. Of two with the same value the greater profile id is the better, so that the
-- fifths are always the same.
with fifths as (
    select
        profile_id,
        gap_days as recency_days,
        order_days as frequency,
        revenue as monetary,
        ntile(5) over (order by last_order_at nulls last, profile_id nulls last) as r,
        ntile(5) over (order by order_days nulls last, profile_id nulls last) as f,
        ntile(5) over (order by revenue nulls last, profile_id nulls last) as m,
        as_of
    from sluis_models.score_churn
)

select
    profile_id,
    recency_days,
    frequency,
    monetary,
    cast(r as int64) as r,
    cast(f as int64) as f,
    cast(m as int64) as m,
    case
        when r >= 4 and f >= 4 then 'champions'
        when r >= 3 and f >= 3 then 'loyal'
        when r >= 4 then 'new'
        when r = 3 then 'promising'
        when f >= 4 and m >= 4 then 'cannot_lose'
        when f >= 3 then 'at_risk'
        else 'hibernating'
    end as segment,
    as_of
from fifths
