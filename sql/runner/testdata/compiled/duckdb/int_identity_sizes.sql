-- How large clusters are, and whether a profile may have as much: of each kind, and
-- in all. A run counts those anew that are others than were counted.
with counted as (
    select c.cluster_id, n.id_type, count(*) as n_nodes, bit_xor(cast(hash(c.node_key, c.fingerprint) >> 1 as int64)) as fingerprint
    from sluis_models.int_identity_clusters as c
    join sluis_models.identity_nodes as n on n.node_key = c.node_key
    group by c.cluster_id, n.id_type
),

judged as (
    select
        c.cluster_id,
        cast(sum(c.n_nodes) as int64) as n_nodes,
        max(case when c.n_nodes > k.profile_limit then 1 else 0 end) = 1 or sum(c.n_nodes) > 200 as is_too_large,
        bit_xor(c.fingerprint) as fingerprint
    from counted as c
    join sluis_models.identifier_kinds as k on k.kind = c.id_type
    group by c.cluster_id
)

-- A cluster that is no more has a row of nothing else, by which its old one goes.
select
    j.cluster_id,
    j.n_nodes,
    j.is_too_large,
    j.fingerprint
from judged as j
