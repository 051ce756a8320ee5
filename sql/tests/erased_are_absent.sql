-- Nobody who was erased is in the identity graph, the consents or the sealed
-- data, whatever arrived since.
with present as (
    select node_key from {{ ref('identity_map') }}
    union distinct
    select node_key from {{ ref('stg_consent') }}
    union distinct
    select pseudonym as node_key from {{ ref('profile_sealed') }}
)

select p.node_key
from present as p
join {{ source('sluis', 'erasures') }} as x on x.pseudonym = p.node_key
