-- Who entered an audience and did not leave it is a member, if the profile is still
-- there.
with latest as (
    select audience, profile_id, action
    from {{ ref('audience_events') }}
    where profile_id is not null
    qualify row_number() over (partition by audience, profile_id order by run desc) = 1
)

select l.profile_id
from latest as l
left join {{ ref('pricing_and_chat') }} as m on m.profile_id = l.profile_id
where l.audience = 'pricing_and_chat' and (l.action = 'entered') <> (m.profile_id is not null)
