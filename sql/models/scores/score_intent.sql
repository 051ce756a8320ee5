{#- A signal that happened twenty half-lives ago counts a millionth, and is not looked
    for. -#}
{%- set topics = var('intent_signals') | map(attribute='topic') | unique | sort -%}
{{ config(meta={'purpose': var('scores_purpose')}) }}
-- How much somebody seems about to do something, by topic: what they did counts by
-- the weights of the var intent_signals, and half as much after each half-life.
with signals as (
    select
        profile_id,
        occurred_at,
        pow(0.5, cast({{ micros(as_of()) }} - {{ micros('occurred_at') }} as {{ dbt.type_float() }}) / {{ 86400000000 * var('intent_half_life_days') }}) as fading
        {%- for topic in topics %},
        0{% for signal in var('intent_signals') %}{% if signal['topic'] == topic %} + case when {{ signal['where'] }} then {{ signal['weight'] }} else 0 end{% endif %}{% endfor %} as weight_{{ loop.index }}
        {%- endfor %}
    from {{ consented_events(var('scores_purpose')) }} as e
    where occurred_at < {{ as_of() }} and occurred_at >= {{ add_hours(as_of(), '-24 * 20 * ' ~ var('intent_half_life_days')) }}
        and ({% for signal in var('intent_signals') %}{% if not loop.first %} or {% endif %}({{ signal['where'] }}){% endfor %})
)
{% for topic in topics %}
{% if not loop.first %}union all
{% endif -%}
select
    profile_id,
    '{{ topic }}' as topic,
    cast(round(sum(weight_{{ loop.index }} * fading), 6) as {{ exact() }}) as score,
    cast(count(*) as int64) as n_signals,
    max(occurred_at) as last_signal_at,
    {{ as_of() }} as as_of
from signals
where weight_{{ loop.index }} <> 0
group by profile_id
{%- endfor %}
