-- Whatever the model, each conversion is shared out whole, and so is its value.
select c.conversion_id, a.model
from {{ ref('conversions') }} as c
left join {{ ref('attribution_credits') }} as a on a.conversion_id = c.conversion_id
group by c.conversion_id, a.model, c.value
having sum(a.credit) is distinct from 1 or sum(a.value) is distinct from c.value
