-- What each campaign brought in each month, and what it cost: as
-- attribution_report, for the models that look at one journey at a time.
with brought as (
    select c.conversion_date as day, a.model, c.kind, a.channel, a.campaign, c.currency, sum(a.credit) as conversions, sum(a.value) as value
    from {{ ref('attribution_credits') }} as a
    join {{ ref('conversions') }} as c on c.conversion_id = a.conversion_id
    group by c.conversion_date, a.model, c.kind, a.channel, a.campaign, c.currency
),

{{ report(['channel', 'campaign']) }}
