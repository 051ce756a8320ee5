-- Whose the events are that carry a set of identifiers. More than one person's, if
-- its identifiers are of several: then each has them.
select distinct i.identifier_set, m.profile_id
from sluis_models.stg_identifiers as i
join sluis_models.identity_map as m on m.node_key = i.node_key
