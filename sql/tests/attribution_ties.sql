-- Whatever the model, each conversion is shared out whole, and so is its value; the
-- reports add up to these, and all that was spent is in them.
with conversions as (
    select conversion_id, kind, currency, value from {{ ref('conversions') }}
),

totals as (
    select kind, currency, count(*) as conversions, sum(value) as value from conversions group by kind, currency
),

spent as (
    select currency, sum(spend) as spend from {{ ref('stg_spend') }} group by currency
)

select 'credits' as what, c.conversion_id as which, a.model
from conversions as c
left join {{ ref('attribution_credits') }} as a on a.conversion_id = c.conversion_id
group by c.conversion_id, a.model, c.value
having sum(a.credit) is distinct from 1 or sum(a.value) is distinct from c.value

union all

{% for report in ['attribution_report', 'attribution_campaigns'] -%}
select '{{ report }}' as what, r.kind as which, r.model
from {{ ref(report) }} as r
left join totals as t on t.kind = r.kind and t.currency = r.currency
left join spent as s on s.currency = r.currency
group by r.model, r.kind, r.currency, t.conversions, t.value, s.spend
having sum(r.conversions) <> coalesce(t.conversions, 0) or sum(r.value) <> coalesce(t.value, 0) or sum(r.spend) <> coalesce(s.spend, 0)

union all

{% endfor -%}
-- A conversion would be missing from a report whole.
select 'attribution_report' as what, t.kind as which, t.currency as model
from totals as t
left join (select kind, currency, model from {{ ref('attribution_report') }} where conversions <> 0 group by kind, currency, model) as r on r.kind = t.kind and r.currency = t.currency
group by t.kind, t.currency
having count(r.model) <> {{ visit_models() | length + 2 }}
