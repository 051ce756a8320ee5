-- People who started a chat within two hours of looking at the prices.
with evidence as (
    select e.*, current_timestamp() as as_of
    from (
    select e.*
    from sluis_models.profile_events as e
    join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.purpose = 'marketing' and c.allowed
    where coalesce('marketing' in unnest(e.purposes), false)
) as e
    where e.occurred_at < current_timestamp()
),

people as (
    select profile_id, min(occurred_at) as met_at
    from evidence
    group by profile_id
),


condition_1 as (
    select profile_id, min(occurred_at) as met_at
    from (
        select
            profile_id,
            occurred_at,
            coalesce(event = 'Live Chat Started', false) as is_second,
            unix_micros(occurred_at) - max(case when page_path = '/pricing' then unix_micros(occurred_at) end)
                over (partition by profile_id order by coalesce(unix_micros(occurred_at), 0) range between unbounded preceding and 1 preceding) as gap
        from evidence
        where ((page_path = '/pricing') or (event = 'Live Chat Started'))
    ) as followed
    where is_second and gap <= 2 * 3600000000
    group by profile_id
),

matched as (
    select
        condition_1.profile_id,
        greatest(condition_1.met_at) as entered_at
    from condition_1
    where true
),

members as (
    select matched.profile_id, matched.entered_at
    from matched
    join sluis_models.consent_profile as consent
        on consent.profile_id = matched.profile_id and consent.purpose = 'marketing' and consent.allowed
)

select profile_id, entered_at
from members
where (select count(*) from members) >= 1
