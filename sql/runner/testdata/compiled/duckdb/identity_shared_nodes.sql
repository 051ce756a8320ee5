-- Identifiers that are hardly one person's: those that are blocked, and those that
-- are seen with more others of a kind than the limits for pairs of kinds allow.
-- It is counted among what is not blocked, and up to the newest of it, not up to
-- now: time that passes shares nothing out and takes nothing back.
with ends as (
    select node_a as node_key, kind_a as id_type, node_b as neighbour, kind_b as neighbour_kind, last_seen_at
    from sluis_models.identity_edges
    union all
    select node_b as node_key, kind_b as id_type, node_a as neighbour, kind_a as neighbour_kind, last_seen_at
    from sluis_models.identity_edges
),

blocked as (
    select pseudonym, min(reason) as reason from sluis_models.identity_blocked group by pseudonym
),

judged as (
    select e.*
    from ends as e
    left join blocked as b on b.pseudonym = e.node_key
    left join blocked as n on n.pseudonym = e.neighbour
    where b.pseudonym is null and n.pseudonym is null
),

-- Few have so many of any time.
crowded as (
    select
        j.node_key,
        j.id_type,
        j.neighbour_kind,
        l.max_neighbours,
        l.window_days,
        l.policy,
        max(j.last_seen_at) as newest
    from judged as j
    join sluis_models.identity_pair_limits as l on l.kind = j.id_type and l.neighbour_kind = j.neighbour_kind
    group by j.node_key, j.id_type, j.neighbour_kind, l.max_neighbours, l.window_days, l.policy
    having count(*) > l.max_neighbours
)

select
    c.node_key,
    c.id_type,
    'pair_limit' as reason,
    c.neighbour_kind,
    cast(count(*) as int64) as degree,
    c.max_neighbours,
    c.policy
from crowded as c
join judged as j on j.node_key = c.node_key and j.neighbour_kind = c.neighbour_kind
where c.window_days is null or j.last_seen_at > (c.newest + to_hours(-24 * c.window_days))
group by c.node_key, c.id_type, c.neighbour_kind, c.max_neighbours, c.policy
having count(*) > c.max_neighbours

union all

select
    n.node_key,
    n.id_type,
    'blocked' as reason,
    'any' as neighbour_kind,
    cast(count(e.neighbour) as int64) as degree,
    cast(0 as int64) as max_neighbours,
    'shared' as policy
from blocked as b
join sluis_models.identity_nodes as n on n.node_key = b.pseudonym
left join ends as e on e.node_key = n.node_key
group by n.node_key, n.id_type
