{{ config(enabled='lookalike_seed' in var('audiences')) }}
-- Whom others should be like: people who bought three times within a year and looked
-- at pages within the last month. For advertising, so that fewer than a hundred of
-- them publish nobody.
{{ audience_members(all_of=[
    did("event = 'Order Completed'", at_least=3, days=365),
    did("type = 'page'", days=30)
]) }}
