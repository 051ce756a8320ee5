-- Who is who. A profile is named after its founder, the identifier seen first:
-- so it keeps its id when others join, and gets it back when they leave.
with ranked as (
    select
        c.node_key,
        first_value(c.node_key) over (partition by c.cluster_id order by n.first_seen_at, c.node_key) as founder_node
    from sluis_models.int_identity_clusters as c
    join sluis_models.identity_nodes as n on n.node_key = c.node_key
)

select
    node_key,
    concat('pr_', substr(to_hex(sha256(founder_node)), 1, 24)) as profile_id,
    founder_node
from ranked
