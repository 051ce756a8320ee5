-- Who was in which audience from when until when, and why it began and ended, as
-- the runs of the models found it.
select
    e.audience_event_id as membership_id,
    e.audience,
    e.profile_id,
    e.account_id,
    e.noticed_at as valid_from,
    x.noticed_at as valid_to,
    e.reason as entry_reason,
    x.reason as exit_reason,
    e.definition
from sluis_models.audience_events as e
left join sluis_models.audience_events as x on x.began_with = e.audience_event_id
where e.action = 'entered'
