{{ config(enabled='new_customers' in var('audiences')) }}
-- People whose first purchase was within the last 30 days.
{{ audience_members(all_of=[
    trait(trait_min('first_order_at', 'occurred_at', "event = 'Order Completed'", type='time'), 'first_order_at >= ' ~ add_hours(as_of(), '-24 * 30'))
]) }}
