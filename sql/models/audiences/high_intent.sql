{{ config(enabled='high_intent' in var('audiences')) }}
-- People of whom score_intent says that they are about to buy, and who did not
-- within the last month.
{{ audience_members(
    all_of=[scored('score_intent', "topic = 'purchase' and score >= 5")],
    none_of=[did("event = 'Order Completed'", days=30)]
) }}
