-- The identifiers in each set that events carry.
with sets as (
    select distinct identifier_set from {{ ref('stg_identifier_days') }} where identifier_set <> ''
),

listed as (
    select s.identifier_set, {{ kind_in('identifier') }} as id_type, {{ pseudonym_in('identifier') }} as node_key
    from sets as s
    cross join {{ unnest("split(s.identifier_set, ' ')", 'identifier') }}
)

select identifier_set, node_key, min(id_type) as id_type
from listed
group by identifier_set, node_key
