{#- The traits of profile_traits and of its history. Add yours here: one line
    each. traits.sql tells the kinds and what they take. -#}
{% macro trait_list() -%}
    {{ return([
        trait_count('page_views', "type = 'page'"),
        trait_count('page_views_30d', "type = 'page'", days=30),
        trait_unique_count('pages', 'page_path'),
        trait_unique_list('sources', 'utm_source'),
        trait_most_frequent('favourite_page', 'page_path', at_least=2),
        trait_first('first_source', 'utm_source'),
        trait_last('last_source', 'utm_source'),
        trait_last('last_page', 'page_path'),
        trait_last('plan', json_text('traits', '$.plan')),
        trait_count('orders', "event = 'Order Completed'"),
        trait_sum('revenue', json_number('properties', '$.total'), "event = 'Order Completed'"),
        trait_sum('revenue_90d', json_number('properties', '$.total'), "event = 'Order Completed'", days=90),
        trait_average('average_order', json_number('properties', '$.total'), "event = 'Order Completed'"),
        trait_min('smallest_order', json_number('properties', '$.total'), "event = 'Order Completed'"),
        trait_max('largest_order', json_number('properties', '$.total'), "event = 'Order Completed'"),
        trait_max('last_order_at', 'occurred_at', "event = 'Order Completed'", type='time'),
    ]) }}
{%- endmacro %}
