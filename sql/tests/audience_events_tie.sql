-- Who entered an audience and did not leave it is a member of it, and nobody else is,
-- if the audience is followed. Nobody is in it twice at a time.
with open_memberships as (
    select audience, coalesce(profile_id, account_id) as member, count(*) as n
    from {{ ref('audience_membership') }}
    where valid_to is null
    group by audience, coalesce(profile_id, account_id)
),

members as (
    select audience, coalesce(profile_id, account_id) as member from {{ ref('audience_members') }}
)

select o.audience as open_in, m.audience as member_of
from open_memberships as o
full join members as m on m.audience = o.audience and m.member = o.member
where o.audience is null or m.audience is null or o.n > 1
