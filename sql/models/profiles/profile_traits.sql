-- What the people who agree to analytics do, one row each, as of now. The list of
-- traits is in macros/traits/trait_list.sql.
with events as (
    select e.*, {{ as_of() }} as as_of
    from {{ consented_events('analytics') }} as e
)

{{ select_traits(trait_list(), 'events', 'profile_id') }}
