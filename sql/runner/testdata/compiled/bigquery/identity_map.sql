-- Who is who. A profile is named after its founder, the identifier seen first:
-- so it keeps its id when others join, and gets it back when they leave. A
-- founder that was given a name keeps it: its pseudonym was rotated, or it was
-- erased and came back.
-- A run makes the profiles of a cluster anew if it, or a part of it, is another.
with names as (
    select pseudonym, min(profile_id) as profile_id from sluis.profile_names group by pseudonym
),

ranked as (
    select
        c.node_key,
        first_value(c.node_key) over (
            partition by coalesce(p.part_id, c.cluster_id)
            order by n.first_seen_at, case when m.pseudonym is null then 1 else 0 end, c.node_key
        ) as founder_node,
        c.cluster_id,
        farm_fingerprint(concat(cast(c.node_key as string), ' ', cast(c.fingerprint as string), ' ', cast(coalesce(p.part_id, '') as string))) as fingerprint
    from sluis_models.int_identity_clusters as c
    join sluis_models.identity_nodes as n on n.node_key = c.node_key
    left join sluis_models.int_identity_parts as p on p.node_key = c.node_key
    left join names as m on m.pseudonym = c.node_key
)

-- A cluster that is no more has a row of nothing else, by which its old ones go.
select
    r.node_key,
    coalesce(m.profile_id, concat('pr_', substr(to_hex(sha256(r.founder_node)), 1, 24))) as profile_id,
    r.founder_node,
    r.cluster_id,
    r.fingerprint
from ranked as r
left join names as m on m.pseudonym = r.founder_node
