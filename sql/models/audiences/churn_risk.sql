{{ config(enabled='churn_risk' in var('audiences')) }}
-- People who bought more than once, and are later than their habit by so much that
-- they may not come back.
{{ audience_members(all_of=[scored('score_churn', "risk_band = 'high' and orders > 1")]) }}
