-- How many are in each audience now, of how many who could be. What is smaller than
-- its min_size publishes nobody, and how small it is remains untold: a number that
-- goes from 49 to 48 tells of one person.
-- depends_on: sluis_models.profile_events
with declared as (
    
    select 'asked_about_prices' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '140b31f6cb237756 marketing 1 1' as definition
    union all select 'colleagues_of_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '194bdd543e021c8c marketing 1 1' as definition
    union all select 'good_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '0c2274854fc3401e marketing 1 1' as definition
    union all select 'lapsed_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '8c273f9442d2ce5c marketing 1 1' as definition
    union all select 'pricing_and_chat' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, 'cfe3b424e59eed19 marketing 1 1' as definition
    union all select 'abandoned_carts' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, 'ffe17147df948a70 marketing 1 1' as definition
    union all select 'active_accounts' as audience, 'account' as entity, 'marketing' as purpose, 1 as min_size, 2 as min_members_consenting, '37e4935fc699830d marketing 1 2' as definition
    union all select 'churn_risk' as audience, 'profile' as entity, 'personalization' as purpose, 1 as min_size, 1 as min_members_consenting, '6628409cff0e7869 personalization 1 1' as definition
    union all select 'high_intent' as audience, 'profile' as entity, 'personalization' as purpose, 1 as min_size, 1 as min_members_consenting, 'acb29065dd558816 personalization 1 1' as definition
    union all select 'lookalike_seed' as audience, 'profile' as entity, 'advertising' as purpose, 100 as min_size, 1 as min_members_consenting, '40a92536a6c3ce71 advertising 100 1' as definition
    union all select 'new_customers' as audience, 'profile' as entity, 'marketing' as purpose, 1 as min_size, 1 as min_members_consenting, '1017dcbc5819efeb marketing 1 1' as definition
),

agreed as (
    select d.audience, count(c.profile_id) as n
    from declared as d
    join sluis_models.consent_profile as c on c.purpose = d.purpose and c.allowed
    where d.entity = 'profile'
    group by d.audience
    union all
    select d.audience, count(*) as n
    from declared as d
    join (
        select c.purpose, e.group_id as account_id, count(distinct e.profile_id) as n_consenting
        from sluis_models.profile_events as e
        join sluis_models.consent_profile as c on c.profile_id = e.profile_id and c.allowed and coalesce(list_contains(e.purposes, c.purpose), false)
        where e.group_id is not null
        group by c.purpose, e.group_id
    ) as b on b.purpose = d.purpose and b.n_consenting >= d.min_members_consenting
    where d.entity = 'account'
    group by d.audience
),

published as (
    select audience, count(*) as n from sluis_models.audience_members group by audience
)

select
    d.audience,
    d.entity,
    d.purpose,
    cast(d.min_size as int64) as min_size,
    cast(coalesce(a.n, 0) as int64) as n_consenting,
    cast(coalesce(p.n, 0) as int64) as n_published,
    p.n is null and d.min_size > 1 as is_suppressed,
    cast(coalesce(p.n, 0) / nullif(a.n, 0) as decimal(38, 9)) as reach
from declared as d
left join agreed as a on a.audience = d.audience
left join published as p on p.audience = d.audience
