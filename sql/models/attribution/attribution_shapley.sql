{%- set n = channel_count() -%}
-- What a channel adds to the rate at which journeys convert, averaged over all
-- orders in which channels could have joined: the Shapley value of rates.
--
-- A set of channels is worth the best rate of the journeys over exactly these
-- channels, or over some of them: what some can do, more can. So it is known of sets
-- that no journey has, and no channel is worth less than nothing. Sets are numbers
-- here, with a bit for each channel.
with channels as (
    {%- for i in range(1, n + 1) %}
    {% if not loop.first %}union all {% endif %}select {{ i }} as number, cast({{ '1' if i == 1 else '2' }}{% for double in range(2, i) %} * 2{% endfor %} as int64) as bit
    {%- endfor %}
),

visited as (
    select distinct kind, journey_id, converted, channel, number
    from {{ ended_journeys() | indent(4) }} as j
),

journeys as (
    select v.kind, v.journey_id, v.converted, cast(sum(c.bit) as int64) as visited
    from visited as v
    join channels as c on c.number = v.number
    group by v.kind, v.journey_id, v.converted
),

rates as (
    select kind, visited, countif(converted) / nullif(count(*), 0) as rate
    from journeys
    group by kind, visited
),

coalitions as (
    select
        {% for i in range(1, n + 1) %}{% if not loop.first %} + {% endif %}b{{ i }}.bit{% endfor %} as members,
        {% for i in range(1, n + 1) %}{% if not loop.first %} + {% endif %}b{{ i }}.one{% endfor %} as size
    from {% for i in range(1, n + 1) %}{% if not loop.first %}
    cross join {% endif %}(select 0 as one, cast(0 as int64) as bit union all select 1 as one, bit from channels where number = {{ i }}) as b{{ i }}
    {%- endfor %}
),

worth as (
    select r.kind, c.members, c.size, max(r.rate) as worth
    from coalitions as c
    join rates as r on (r.visited & c.members) = r.visited
    group by r.kind, c.members, c.size
),

-- How many of all orders have the other members of a set, and none else, before a
-- channel: what the set is worth counts for its last one, and against the next.
orders as (
    {%- for size in range(0, n + 1) %}
    {% if not loop.first %}union all {% endif %}select {{ size }} as size, {% if size == 0 %}0{% else %}1 / {{ orders_around(size - 1, n) }}{% endif %} as joined, {% if size == n %}0{% else %}1 / {{ orders_around(size, n) }}{% endif %} as missing
    {%- endfor %}
),

additions as (
    select
        w.kind,
        c.number,
        sum(w.worth * case when (w.members & c.bit) <> 0 then o.joined else -o.missing end) as rate_added
    from worth as w
    join orders as o on o.size = w.size
    cross join channels as c
    group by w.kind, c.number
),

shares as (
    select a.kind, v.channel, a.rate_added, a.rate_added / nullif(sum(a.rate_added) over (partition by a.kind), 0) as share
    from additions as a
    join (select distinct kind, number, channel from visited) as v on v.kind = a.kind and v.number = a.number
    where a.kind in (select kind from rates where rate > 0)
)

{{ exact_shares('rate_added') }}
