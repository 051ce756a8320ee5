-- How many are in two audiences for the same purpose at once. Numbers are rounded
-- down to tens, and small ones are not told, so that no two looks at it, and no
-- difference, tell of one person.
with members as (
    select m.audience, m.entity, coalesce(m.profile_id, m.account_id) as member, d.purpose, d.min_size
    from {{ ref('audience_members') }} as m
    join (
        {{ audiences_declared() | indent(8) }}
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
    cast({{ rounded_count('s.n') }} as int64) as n,
    cast({{ rounded_count('o.n') }} as int64) as n_other,
    cast(case when b.n >= b.min_size and b.n >= b.other_min_size then {{ rounded_count('b.n') }} end as int64) as n_both
from shared as b
join sizes as s on s.audience = b.audience
join sizes as o on o.audience = b.other
