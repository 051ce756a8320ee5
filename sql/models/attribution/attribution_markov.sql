{%- set n = channel_count() -%}
{%- set conversion = n + 1 -%}
-- How much rarer conversions would be without a channel, if people went from visit
-- to visit by the odds that journeys show: the removal effect of a Markov chain of
-- first order.
--
-- The chain's states are the start, 0, the channels, and the conversion. The
-- table `taken_k` has, for each two states, the weight of all ways from one to the
-- other over the channels up to k, however often; eliminating one channel after the
-- other solves the chain exactly, without anything to converge. A channel's effect
-- is then the part of the converting ways that lead over it.
with steps as (
    select
        j.*,
        lag(j.number) over (partition by j.kind, j.journey_id order by j.place) as number_before
    from {{ ended_journeys() | indent(4) }} as j
),

-- From one visit to another by the same channel nothing changes.
moves as (
    select kind, coalesce(number_before, 0) as i, number as j, count(*) as times
    from steps
    where number_before is null or number_before <> number
    group by kind, coalesce(number_before, 0), number

    union all

    select kind, number as i, case when converted then {{ conversion }} else -1 end as j, count(*) as times
    from steps
    where place = visits
    group by kind, number, case when converted then {{ conversion }} else -1 end
),

odds as (
    select kind, i, j, times / nullif(sum(times) over (partition by kind, i), 0) as p
    from moves
),

taken_0 {{ as_computed() }} (
    select a.kind, a.i, b.j, coalesce(o.p, 0) as p
    from (select distinct kind, i from moves) as a
    join (select distinct kind, j from moves where j > 0) as b on b.kind = a.kind
    left join odds as o on o.kind = a.kind and o.i = a.i and o.j = b.j
),
{% for k in range(1, n + 1) %}
to_{{ k }} as (
    select kind, i, j, p, coalesce(max(case when j = {{ k }} then p end) over (partition by kind, i), 0) as p_to
    from taken_{{ k - 1 }}
),

from_{{ k }} as (
    select kind, i, j, p, p_to, coalesce(max(case when i = {{ k }} then p / nullif(1 - p_to, 0) end) over (partition by kind, j), 0) as p_from
    from to_{{ k }}
),

taken_{{ k }} {{ as_computed() }} (
    select kind, i, j, p + p_to * p_from as p
    from from_{{ k }}
),
{% endfor %}
solved as (
    select kind, i, j, p, max(case when i = 0 and j = {{ conversion }} then p end) over (partition by kind) as p_conversion
    from taken_{{ n }}
),

effects as (
    select
        kind,
        case when i = 0 then j else i end as number,
        max(case when i = 0 then p end) as p_visited,
        max(case when i = j then p end) as p_again,
        max(case when i > 0 and j = {{ conversion }} then p end) as p_converts,
        max(p_conversion) as p_conversion
    from solved
    where i = j or i = 0 and j < {{ conversion }} or i > 0 and j = {{ conversion }}
    group by kind, case when i = 0 then j else i end
),

removals as (
    select kind, number, p_visited / nullif(1 + p_again, 0) * p_converts / nullif(p_conversion, 0) as removal_effect
    from effects
    where p_conversion > 0
),

shares as (
    select r.kind, c.channel, r.removal_effect, r.removal_effect / nullif(sum(r.removal_effect) over (partition by r.kind), 0) as share
    from removals as r
    join (select distinct kind, number, channel from steps) as c on c.kind = r.kind and c.number = r.number
)

{{ exact_shares('removal_effect') }}
