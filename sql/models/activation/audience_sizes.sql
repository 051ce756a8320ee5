-- How many are in each audience now, of how many who could be. What is smaller than
-- its min_size publishes nobody, and how small it is remains untold: a number that
-- goes from 49 to 48 tells of one person.
-- depends_on: {{ ref('profile_events') }}
with declared as (
    {{ audiences_declared() | indent(4) }}
),

agreed as (
    select d.audience, count(c.profile_id) as n
    from declared as d
    join {{ ref('consent_profile') }} as c on c.purpose = d.purpose and c.allowed
    where d.entity = 'profile'
    group by d.audience
    {%- if accounts_followed() %}
    union all
    select d.audience, count(*) as n
    from declared as d
    join (
        {{ consenting_by_account() | indent(8) }}
    ) as b on b.purpose = d.purpose and b.n_consenting >= d.min_members_consenting
    where d.entity = 'account'
    group by d.audience
    {%- endif %}
),

published as (
    select audience, count(*) as n from {{ ref('audience_members') }} group by audience
)

select
    d.audience,
    d.entity,
    d.purpose,
    cast(d.min_size as int64) as min_size,
    cast(coalesce(a.n, 0) as int64) as n_consenting,
    cast(coalesce(p.n, 0) as int64) as n_published,
    p.n is null and d.min_size > 1 as is_suppressed,
    cast(coalesce(p.n, 0) / nullif(a.n, 0) as {{ exact() }}) as reach
from declared as d
left join agreed as a on a.audience = d.audience
left join published as p on p.audience = d.audience
