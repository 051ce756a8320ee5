-- The links that may be used now: neither identifier refuses to be recognised.
select l.*
from sluis_models.identity_links as l
left join sluis_models.consent_node_state as a on a.node_key = l.node_a and a.purpose = 'identity'
left join sluis_models.consent_node_state as b on b.node_key = l.node_b and b.purpose = 'identity'
where coalesce(a.granted, true) and coalesce(b.granted, true)
