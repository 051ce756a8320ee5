-- Ids that profiles have, had, or would have if their founder were alone, and
-- the profile where the founder is now. An id that is kept elsewhere, such as in
-- a tool, is found here after two profiles became one. It needs no memory: who
-- was erased is in it no more.
with names as (
    select pseudonym, min(profile_id) as profile_id from sluis.profile_names group by pseudonym
)

select
    coalesce(n.profile_id, concat('pr_', substr(to_hex(sha256(m.node_key)), 1, 24))) as alias_id,
    m.profile_id,
    m.node_key as founder_node
from sluis_models.identity_map as m
left join names as n on n.pseudonym = m.node_key
where m.node_key <> m.founder_node
