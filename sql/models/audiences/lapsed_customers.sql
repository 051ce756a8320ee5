-- People who bought something and did nothing for thirty days.
{{ audience_members(all_of=[
    did("event = 'Order Completed'"),
    did_not("true", days=30)
]) }}
