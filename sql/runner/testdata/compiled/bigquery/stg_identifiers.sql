-- The identifiers in each set that events carry.
with sets as (
    select distinct identifier_set from sluis_models.stg_identifier_days where identifier_set <> ''
),

listed as (
    select s.identifier_set, regexp_extract(identifier, '^[^:]*') as id_type, regexp_replace(identifier, '^[^:]*:', '') as node_key
    from sets as s
    cross join unnest(split(s.identifier_set, ' ')) as identifier
)

select identifier_set, node_key, min(id_type) as id_type
from listed
group by identifier_set, node_key
