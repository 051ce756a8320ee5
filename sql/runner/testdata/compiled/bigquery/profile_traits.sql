-- What the people who agree to analytics do, one row each, as of now. The list of
-- traits is in macros/traits/trait_list.sql.
select
    profile_id,
    page_views,
    page_views_30d,
    pages,
    sources,
    favourite_page,
    first_source,
    last_source,
    last_page,
    plan,
    orders,
    revenue,
    revenue_90d,
    average_order,
    smallest_order,
    largest_order,
    last_order_at
from sluis_models.int_profile_traits
