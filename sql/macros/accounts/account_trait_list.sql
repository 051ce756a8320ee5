{#- The traits of account_traits, computed of the events that carry the account's
    group_id, and of no others that its members make. Add yours here: one line each,
    of the kinds in traits.sql and of those below; its column goes into
    _accounts.yml. -#}
{% macro account_trait_list() -%}
    {{ return([
        trait_unique_count('members', 'profile_id'),
        trait_unique_count('members_30d', 'profile_id', days=30),
        trait_count('events_30d', days=30),
        trait_last('plan', json_text('traits', '$.plan')),
        trait_count('orders', "event = 'Order Completed'"),
        trait_sum('revenue', json_number('properties', '$.total'), "event = 'Order Completed'"),
        trait_sum('revenue_90d', json_number('properties', '$.total'), "event = 'Order Completed'", days=90),
        trait_max('last_order_at', 'occurred_at', "event = 'Order Completed'", type='time'),
        members_any('any_chatted', "event = 'Live Chat Started'"),
        members_all('all_active_30d', 'true', days=30),
        members_none('none_bought', "event = 'Order Completed'"),
    ]) }}
{%- endmacro %}

{#- Whether any, all or none of the account's members did something for it. -#}
{% macro members_any(name, where, days=0) -%}
    {{ return({'name': name, 'kind': 'members', 'who': 'any', 'of': '1', 'where': where, 'days': days, 'type': 'boolean'}) }}
{%- endmacro %}

{% macro members_all(name, where, days=0) -%}
    {{ return({'name': name, 'kind': 'members', 'who': 'all', 'of': '1', 'where': where, 'days': days, 'type': 'boolean'}) }}
{%- endmacro %}

{% macro members_none(name, where, days=0) -%}
    {{ return({'name': name, 'kind': 'members', 'who': 'none', 'of': '1', 'where': where, 'days': days, 'type': 'boolean'}) }}
{%- endmacro %}
