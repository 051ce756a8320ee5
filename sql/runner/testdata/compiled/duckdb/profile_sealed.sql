-- The latest sealed value of each field and purpose. It stays sealed: only who
-- holds the purpose's private key reads it.
select
    m.profile_id,
    v.field,
    v.purpose,
    v.pseudonym,
    v.key_id,
    v.ciphertext,
    v.token,
    v.decision_id,
    v.received_at
from sluis.vault as v
join sluis_models.identity_map as m on m.node_key = v.pseudonym
where true
qualify row_number() over (
    partition by m.profile_id, v.field, v.purpose
    order by v.received_at desc, v.spool_id desc, v.spool_offset desc, v.pseudonym, v.token, v.key_id
) = 1
