{{ config(enabled='abandoned_carts' in var('audiences')) }}
-- People who put something into a cart within the last week, and bought nothing
-- after that.
{{ audience_members(
    all_of=[did("event = 'Product Added'", days=7)],
    none_of=[then_within("event = 'Product Added'", "event = 'Order Completed'", hours=168, days=7)]
) }}
