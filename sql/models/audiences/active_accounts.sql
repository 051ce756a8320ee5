{{ config(enabled='active_accounts' in var('audiences')) }}
-- Accounts that have an admin, did something within the last two weeks, and bought
-- something before.
{{ audience_members(all_of=[
    account_any(trait(trait_last('role', json_text('traits', '$.role')), "role = 'admin'")),
    did("true", days=14),
    did("event = 'Order Completed'")
]) }}
