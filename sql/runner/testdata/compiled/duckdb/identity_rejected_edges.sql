-- Links that may be used, and join nobody, and why. What a limit of a profile
-- stopped names the kind that both profiles together would have too many of.
with apart as (
    select e.node_a, e.node_b, a.part_id as part_a, b.part_id as part_b
    from sluis_models.int_identity_parts as a
    join sluis_models.identity_edges as e on e.node_a = a.node_key
    join sluis_models.int_identity_parts as b on b.node_key = e.node_b
    left join sluis_models.int_identity_weak_edges as w on w.node_a = e.node_a and w.node_b = e.node_b
    where a.part_id <> b.part_id and w.node_a is null
),

sizes as (
    select p.part_id, i.id_type, count(distinct p.entity_id) as n_entities
    from sluis_models.int_identity_parts as p
    join sluis_models.identity_nodes as i on i.node_key = p.node_key
    group by p.part_id, i.id_type
),

pairs as (
    select part_a, part_b from apart group by part_a, part_b
),

together as (
    select part_a, part_b, id_type, sum(n_entities) as n_entities
    from (
        select p.part_a, p.part_b, s.id_type, s.n_entities from pairs as p join sizes as s on s.part_id = p.part_a
        union all
        select p.part_a, p.part_b, s.id_type, s.n_entities from pairs as p join sizes as s on s.part_id = p.part_b
    ) as both_parts
    group by part_a, part_b, id_type
),

exceeded as (
    select
        t.part_a,
        t.part_b,
        t.id_type,
        row_number() over (partition by t.part_a, t.part_b order by k.priority, t.id_type) as place
    from together as t
    join sluis_models.identifier_kinds as k on k.kind = t.id_type
    where t.n_entities > k.profile_limit
),

reasons as (
    select node_a, node_b, reason, cast(null as string) as limited_kind from sluis_models.int_identity_weak_edges
    union all
    select
        a.node_a,
        a.node_b,
        case when x.id_type is null then 'profile_size' else 'profile_limit' end as reason,
        x.id_type as limited_kind
    from apart as a
    left join exceeded as x on x.part_a = a.part_a and x.part_b = a.part_b and x.place = 1
)

select
    e.node_a,
    e.node_b,
    e.kind_a,
    e.kind_b,
    r.reason,
    r.limited_kind,
    e.tier,
    e.first_seen_at,
    e.last_seen_at,
    e.n_events
from reasons as r
join sluis_models.identity_edges as e on e.node_a = r.node_a and e.node_b = r.node_b
