{#- The attribution models that share out one conversion over its visits. -#}
{% macro visit_models() -%}
    {{ return(['first', 'last', 'last_non_direct', 'linear', 'position', 'time_decay', 'shapley']) }}
{%- endmacro %}

{#- How many channels the Markov and Shapley models tell apart. -#}
{% macro channel_count() -%}
    {%- set n = var('attribution_channels') | int -%}
    {%- if n < 2 or n > 12 -%}{{ exceptions.raise_compiler_error('the var attribution_channels must be a number from 2 to 12: each channel doubles what attribution_shapley costs') }}{%- endif -%}
    {{ return(n) }}
{%- endmacro %}

{#- FROM item of the visits of journeys that have ended, with the number of each
    one's channel. Channels have the numbers from 1 to the var
    attribution_channels, the busiest first, by kind of conversion; what is left
    is one channel together, since what these models cost grows with a power of
    their number. A journey that is still open tells nothing yet. -#}
{% macro ended_journeys() -%}
{%- set n = channel_count() -%}
(
    select
        j.kind,
        j.journey_id,
        j.place,
        j.visits,
        j.outcome = 'converted' as converted,
        case when r.number < {{ n }} or r.channels <= {{ n }} then j.channel else 'other channels' end as channel,
        case when r.number < {{ n }} then r.number else {{ n }} end as number
    from {{ ref('attribution_journeys') }} as j
    join (
        select
            kind,
            channel,
            row_number() over (partition by kind order by count(*) desc, channel) as number,
            count(*) over (partition by kind) as channels
        from {{ ref('attribution_journeys') }}
        where outcome <> 'open'
        group by kind, channel
    ) as r on r.kind = j.kind and r.channel = j.channel
    where j.outcome <> 'open'
)
{%- endmacro %}

{#- The shares of channels, which are floats, as decimals that add up to exactly 1
    for each kind, from the query `shares` with kind, channel, an effect and a share.
    What rounding leaves goes to the one with the most. The little that is added lets
    both warehouses round a half up, whatever the order in which they added. -#}
{% macro exact_shares(effect) -%}
select
    kind,
    channel,
    {{ effect }},
    cast(share + case when place = channels then 1 - sum(share) over (partition by kind) else 0 end as {{ exact() }}) as share
from (
    select
        kind,
        channel,
        cast({{ effect }} + 0.000000000001 as {{ exact() }}) as {{ effect }},
        cast(share + 0.000000000001 as {{ exact() }}) as share,
        row_number() over (partition by kind order by share nulls last, channel) as place,
        count(*) over (partition by kind) as channels
    from shares
) as rounded
{%- endmacro %}

{#- In which part of the orders of n channels a channel has certain `before` others,
    and no more, before it: one in n times the number of choices of so many out of
    n - 1. This is that number. -#}
{% macro orders_around(before, n) -%}
    {%- set parts = namespace(orders=n) -%}
    {%- for i in range(1, before + 1) -%}{%- set parts.orders = parts.orders * (n - i) / i -%}{%- endfor -%}
    {{ return(parts.orders | int) }}
{%- endmacro %}
