-- What each channel and campaign brought, by each attribution model. Totals are
-- the same for every model.
select
    a.model,
    c.kind,
    a.channel,
    a.campaign,
    c.currency,
    sum(a.credit) as conversions,
    sum(a.value) as value
from sluis_models.attribution_credits as a
join sluis_models.conversions as c on c.conversion_id = a.conversion_id
group by a.model, c.kind, a.channel, a.campaign, c.currency
