-- How much somebody seems about to do something, by topic: what they did counts by
-- the weights of the var intent_signals, and half as much after each half-life.
with signals as (
    select
        profile_id,
        occurred_at,
        pow(0.5, cast(epoch_us(now()) - epoch_us(occurred_at) as double) / 604800000000) as fading,
        0 + case when event = 'Live Chat Started' then 3 else 0 end as weight_1,
        0 + case when page_path = '/pricing' then 1 else 0 end + case when event = 'Product Added' then 3 else 0 end + case when event = 'Checkout Started' then 5 else 0 end as weight_2
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'personalization' and c.allowed
    where coalesce(list_contains(e.purposes, 'personalization'), false)
) as e
    where occurred_at < now() and occurred_at >= (now() + to_hours(-24 * 20 * 7))
        and ((page_path = '/pricing') or (event = 'Product Added') or (event = 'Checkout Started') or (event = 'Live Chat Started'))
)

select
    profile_id,
    'help' as topic,
    cast(round(sum(weight_1 * fading), 6) as decimal(38, 9)) as score,
    cast(count(*) as int64) as n_signals,
    max(occurred_at) as last_signal_at,
    now() as as_of
from signals
where weight_1 <> 0
group by profile_id
union all
select
    profile_id,
    'purchase' as topic,
    cast(round(sum(weight_2 * fading), 6) as decimal(38, 9)) as score,
    cast(count(*) as int64) as n_signals,
    max(occurred_at) as last_signal_at,
    now() as as_of
from signals
where weight_2 <> 0
group by profile_id
