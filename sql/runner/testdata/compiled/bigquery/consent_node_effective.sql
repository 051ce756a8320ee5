-- What counts for each identifier: its own latest word or, if that is later, a
-- refusal by an identifier that it was linked to. Whoever withdraws the consent
-- to be recognised cuts such links; without this, what else they withdrew would
-- reach only the identifier it came with, and none of their others. The same goes
-- for links that join nobody, since a device is shared or a limit was reached: who
-- refused on a device that two people have may be either. A word under what is
-- blocked is nobody's.
with cut as (
    select s.node_key as refusing, l.node_b as other
    from sluis_models.consent_node_state as s
    join sluis_models.identity_links as l on l.node_a = s.node_key
    where s.purpose = 'identity' and not s.granted
    union distinct
    select s.node_key as refusing, l.node_a as other
    from sluis_models.consent_node_state as s
    join sluis_models.identity_links as l on l.node_b = s.node_key
    where s.purpose = 'identity' and not s.granted
    union distinct
    select node_a as refusing, node_b as other from sluis_models.identity_rejected_edges where reason <> 'blocked'
    union distinct
    select node_b as refusing, node_a as other from sluis_models.identity_rejected_edges where reason <> 'blocked'
),

inherited as (
    -- Whether the other may be recognised is for it to say.
    select c.other as node_key, s.purpose, s.granted, s.decided_at, s.decision_id, s.policy_version, s.signal
    from cut as c
    join sluis_models.consent_node_state as s on s.node_key = c.refusing
    where not s.granted and s.purpose <> 'identity'
),

-- Most have only their own word, and these alone are compared.
contested as (
    select s.node_key, s.purpose, s.granted, s.decided_at, s.decision_id, s.policy_version, s.signal
    from sluis_models.consent_node_state as s
    join (select distinct node_key, purpose from inherited) as i on i.node_key = s.node_key and i.purpose = s.purpose
    union all
    select * from inherited
)

select s.node_key, s.purpose, s.granted, s.decided_at, s.decision_id, s.policy_version, s.signal
from sluis_models.consent_node_state as s
left join (select distinct node_key, purpose from inherited) as i on i.node_key = s.node_key and i.purpose = s.purpose
where i.node_key is null

union all

select node_key, purpose, granted, decided_at, decision_id, policy_version, signal
from contested
where true
qualify row_number() over (
    partition by node_key, purpose
    order by
        decided_at desc, case when granted then 1 else 0 end,
        decision_id nulls last, policy_version nulls last, signal nulls last
) = 1
