-- Links that join nobody, whatever else is known, and why: an end that is blocked
-- or shared, two of one kind that nobody declared to be one, and what is not
-- among the newest of a node that joins only these.
with shared as (
    select node_key, min(reason) as reason
    from sluis_models.identity_shared_nodes
    where policy = 'shared'
    group by node_key
),

ranked as (
    select
        e.node_a,
        e.node_b,
        s.max_neighbours,
        row_number() over (
            partition by s.node_key, s.neighbour_kind
            order by e.last_seen_at desc, e.node_a, e.node_b
        ) as place
    from sluis_models.identity_shared_nodes as s
    join (
        select node_a as node_key, kind_b as neighbour_kind, node_a, node_b, last_seen_at from sluis_models.identity_edges
        union all
        select node_b as node_key, kind_a as neighbour_kind, node_a, node_b, last_seen_at from sluis_models.identity_edges
    ) as e on e.node_key = s.node_key and e.neighbour_kind = s.neighbour_kind
    where s.policy = 'last_auth'
),

weak as (
    select e.node_a, e.node_b, case when s.reason = 'blocked' then 'blocked' else 'shared' end as reason
    from sluis_models.identity_edges as e
    join shared as s on s.node_key = e.node_a
    union all
    select e.node_a, e.node_b, case when s.reason = 'blocked' then 'blocked' else 'shared' end as reason
    from sluis_models.identity_edges as e
    join shared as s on s.node_key = e.node_b
    union all
    select node_a, node_b, 'same_kind' as reason
    from sluis_models.identity_edges
    where kind_a = kind_b and not is_declared
    union all
    select node_a, node_b, 'superseded' as reason
    from ranked
    where place > max_neighbours
)

-- blocked comes before the others.
select node_a, node_b, min(reason) as reason
from weak
group by node_a, node_b
