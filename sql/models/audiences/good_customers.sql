-- People who spent a hundred within a year, or came back to buy again, and have not lapsed.
{{ audience_members(
    any_of=[
        trait(trait_sum('revenue', json_number('properties', '$.total'), "event = 'Order Completed'", days=365), 'revenue >= 100'),
        did("event = 'Order Completed'", at_least=2)
    ],
    none_of=[in_audience('lapsed_customers')]
) }}
