-- People whose colleague bought something, and who did not.
{{ audience_members(
    all_of=[account_any(did("event = 'Order Completed'"))],
    none_of=["event = 'Order Completed'"]
) }}
