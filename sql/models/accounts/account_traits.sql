-- What is known of each account, one row each, as of now, by the events that carry its
-- group id, of people who agree to analytics. The list of traits is in
-- macros/accounts/account_trait_list.sql.
with events as (
    select e.*, e.group_id as account_id, {{ as_of() }} as as_of
    from {{ consented_events('analytics') }} as e
    where e.group_id is not null
)

{{ select_traits(account_trait_list(), 'events', 'account_id') }}
