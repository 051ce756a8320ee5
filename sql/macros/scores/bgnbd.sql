{#- The model BG/NBD of Fader, Hardie and Lee ("Counting Your Customers" the Easy
    Way, 2005): as long as somebody is a customer they buy at a rate of their own, and
    after each purchase they may cease to be one. fit has r and alpha, how the rates
    are spread, a and b, how the chances to cease are, and unit_days, the days of the
    unit of time that they were fitted in. -#}

{#- The query that adds to a relation how likely somebody is still a customer, as
    p_alive, and how many purchases to expect of them, as expected_orders, both
    without any fit NULL. The relation has

    repeats      how many purchases after the first
    active_days  the time from the first to the last
    age_days     the time from the first until now

    Odds are in logarithms, so that somebody with hundreds of purchases does not
    overflow. Who bought once has had no chance to cease: that is 1, and says nothing.

    The paper's hypergeometric function is transformed by Euler's rule, by which its
    large powers cancel, and its series becomes

        1 + c(0) (1 + c(1) (1 + c(2) (…))),  c(k) = z (a + b - 1 - r + k) (a - 1 + k) / ((a + b + repeats - 1 + k) (k + 1))

    where z = ahead / (alpha + age + ahead) is less than 1. It is written out for 160
    terms, in steps, since warehouses bound how deep an expression may be. What is
    left out is less than 0.00001 purchases where ahead is up to twelve times alpha,
    and less than that the longer somebody has been known. -#}
{% macro bgnbd(relation, fit, ahead_days) -%}
{%- set float = dbt.type_float() -%}
{%- if not fit -%}
select *, cast(null as {{ float }}) as p_alive, cast(null as {{ float }}) as expected_orders
from {{ relation }}
{%- else -%}
with fitted as (
    select
        *,
        cast({{ fit['r'] }} as {{ float }}) as r,
        cast({{ fit['alpha'] }} as {{ float }}) as alpha,
        cast({{ fit['a'] }} as {{ float }}) as a,
        cast({{ fit['b'] }} as {{ float }}) as b,
        active_days / cast({{ fit['unit_days'] }} as {{ float }}) as active,
        age_days / cast({{ fit['unit_days'] }} as {{ float }}) as age,
        {{ ahead_days }} / cast({{ fit['unit_days'] }} as {{ float }}) as ahead
    from {{ relation }}
),

odds as (
    select
        *,
        case when repeats > 0 then ln(a / nullif(b + repeats - 1, 0)) + (r + repeats) * ln((alpha + age) / nullif(alpha + active, 0)) end as log_odds,
        ahead / nullif(alpha + age + ahead, 0) as z
    from fitted
),

tail_0 as (
    select
        *,
        case when repeats = 0 then 1 when log_odds > 700 then 0 else 1 / nullif(1 + exp(log_odds), 0) end as p_alive,
        cast(1 as {{ float }}) as tail
    from odds
),
{% for step in range(8) %}
tail_{{ step + 1 }} as (
    select
        * replace (
            {% for k in range(140 - 20 * step, 160 - 20 * step) %}1 + z * (a + b - 1 - r + {{ k }}) * (a - 1 + {{ k }}) / nullif((a + b + repeats - 1 + {{ k }}) * {{ k + 1 }}, 0) * (
            {% endfor %}tail
            {% for k in range(20) %}){% endfor %} as tail
        )
    from tail_{{ step }}
),
{% endfor %}
expected as (
    select *, (a + b + repeats - 1) / nullif(a - 1, 0) * (1 - exp((a - 1) * ln(1 - z)) * tail) * p_alive as expected_orders
    from tail_8
)

select * from expected
{%- endif -%}
{%- endmacro %}
