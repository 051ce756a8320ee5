-- No published number is smaller than it may be.
select *
from {{ ref('counts_published') }}
where n < {{ var('counts_min_cell') }}
