{#- The query for what channels brought and cost, by month: of the same days on
    both sides. Spend without a conversion stays, and so do conversions without
    spend. It reads the query `brought`, of day, model, kind, currency, conversions,
    value and the columns `keys`, such as channel. -#}
{% macro report(keys) -%}
costs as (
    select {{ month_of('day') }} as month, {{ keys | join(', ') }}, currency, sum(spend) as spend
    from {{ ref('channel_spend_daily') }}
    group by {{ month_of('day') }}, {{ keys | join(', ') }}, currency
),

both_sides as (
    select {{ month_of('day') }} as month, model, kind, {{ keys | join(', ') }}, currency, conversions, value, cast(0 as {{ exact() }}) as spend
    from brought

    union all

    select c.month, m.model, m.kind, {% for key in keys %}c.{{ key }}, {% endfor %}c.currency, cast(0 as {{ exact() }}) as conversions, cast(0 as {{ exact() }}) as value, c.spend
    from costs as c
    cross join (
        {%- for kind in var('conversions') %}
        {%- set outer = loop %}
        {%- for model in channel_or_visit_models(keys) %}
        {% if not (outer.first and loop.first) %}union all {% endif %}select '{{ model }}' as model, '{{ kind }}' as kind
        {%- endfor %}
        {%- endfor %}
    ) as m
),

summed as (
    select month, model, kind, {{ keys | join(', ') }}, currency, sum(conversions) as conversions, sum(value) as value, sum(spend) as spend
    from both_sides
    group by month, model, kind, {{ keys | join(', ') }}, currency
)

select
    month,
    model,
    kind,
    {{ keys | join(', ') }},
    currency,
    conversions,
    value,
    spend,
    {{ ratio('value', 'spend') }} as roas,
    {{ ratio('spend', 'conversions') }} as cost_per_conversion
from summed
where conversions <> 0 or value <> 0 or spend <> 0
{%- endmacro %}

{#- The models of a report: all, or for campaigns those that look at visits. -#}
{% macro channel_or_visit_models(keys) -%}
    {%- if 'campaign' in keys -%}{{ return(visit_models()) }}{%- endif -%}
    {{ return(visit_models() + ['markov', 'rate_shapley']) }}
{%- endmacro %}

{#- A ratio of two decimals as one; NULL if the second is 0. -#}
{% macro ratio(of, by) -%}
cast(cast({{ of }} as {{ dbt.type_float() }}) / nullif(cast({{ by }} as {{ dbt.type_float() }}), 0) as {{ exact() }})
{%- endmacro %}
