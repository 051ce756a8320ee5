-- What the people who agree to analytics do, one row each, as of now. The list of
-- traits is in macros/traits/trait_list.sql.
select
    profile_id
    {%- for trait in trait_list() %},
    {{ trait['name'] }}
    {%- endfor %}
from {{ ref('int_profile_traits') }}
