-- How many are in two audiences for the same purpose at once. Numbers are rounded
-- down to tens, and small ones are not told, so that no two looks at it, and no
-- difference, tell of one person.
with members as (
    select m.audience, m.entity, coalesce(m.profile_id, m.account_id) as member, d.purpose, d.min_size
    from sluis_models.audience_members as m
    join (
        
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
    ) as d on d.audience = m.audience
),

sizes as (
    select audience, count(*) as n from members group by audience
),

shared as (
    select a.audience, b.audience as other, max(a.min_size) as min_size, max(b.min_size) as other_min_size, count(*) as n
    from members as a
    join members as b on b.entity = a.entity and b.purpose = a.purpose and b.member = a.member and a.audience < b.audience
    group by a.audience, b.audience
)

select
    b.audience,
    b.other,
    cast(case when s.n >= 20 then s.n - mod(s.n, 10) end as int64) as n,
    cast(case when o.n >= 20 then o.n - mod(o.n, 10) end as int64) as n_other,
    cast(case when b.n >= b.min_size and b.n >= b.other_min_size then case when b.n >= 20 then b.n - mod(b.n, 10) end end as int64) as n_both
from shared as b
join sizes as s on s.audience = b.audience
join sizes as o on o.audience = b.other
