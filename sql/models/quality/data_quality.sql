{#- What makes data bad, as conditions on an event. Add yours here. of says which
    events are asked, if not all; source_scorecard has a column for each verdict. -#}
{%- set checks = [
    {'name': 'late', 'verdict': 'stale', 'bad': micros('e.received_at') ~ ' - ' ~ micros('e.occurred_at') ~ ' > 86400000000'},
    {'name': 'unidentified', 'verdict': 'inaccessible', 'of': 'not e.is_bot', 'bad': 'i.identifier_set is null'},
    {'name': 'without_purpose', 'verdict': 'inaccessible', 'bad': 'not ' ~ array_contains('e.purposes', "'analytics'") ~ ' and not ' ~ array_contains('e.purposes', "'personalization'") ~ ' and not ' ~ array_contains('e.purposes', "'marketing'") ~ ' and not ' ~ array_contains('e.purposes', "'advertising'")},
    {'name': 'off_plan', 'verdict': 'disorganised', 'bad': 'o.event_id is not null'},
    {'name': 'duplicate', 'verdict': 'disorganised', 'bad': 'c.event_id is not null'},
    {'name': 'nameless', 'verdict': 'disorganised', 'of': "e.type in ('track', 'page', 'screen')", 'bad': "coalesce(case when e.type = 'track' then e.event when e.type = 'page' then e.page_path else coalesce(e.event, e.page_title) end, '') = ''"},
    {'name': 'premature', 'verdict': 'disorganised', 'bad': micros('e.occurred_at') ~ ' - ' ~ micros('e.received_at') ~ ' > 300000000'},
    {'name': 'bot', 'verdict': 'disorganised', 'bad': 'e.is_bot'},
    {'name': 'crowded_profile', 'verdict': 'disorganised', 'of': 'i.identifier_set is not null', 'bad': 'i.n_nodes > ' ~ var('crowded_nodes')},
    {'name': 'third_party', 'verdict': 'not_first_party', 'bad': "e.source_id in ('" ~ var('third_party_sources') | join("', '") ~ "')"},
] -%}
{%- if var('own_hosts') -%}
{%- set checks = checks + [
    {'name': 'foreign_page', 'verdict': 'not_first_party', 'of': 'e.page_url is not null', 'bad': 'coalesce(' ~ url_host('e.page_url') ~ ", '') not in ('" ~ var('own_hosts') | join("', '") ~ "')"},
] -%}
{%- endif -%}
-- How much of what each source sent lately is bad, by each check, with events to
-- look at. What the collector did not keep is told by its ledger, as numbers.
with copied as (
    select event_id
    from {{ source('sluis', 'events') }}
    where received_at >= {{ add_hours(as_of(), '-24 * ' ~ var('quality_days')) }}
    group by event_id
    having count(*) > 1
),

off_plan as (
    select distinct e.event_id, e.spool_id, e.spool_offset
    from (
        select event_id, spool_id, spool_offset, violations
        from {{ source('sluis', 'events') }}
        where received_at >= {{ add_hours(as_of(), '-24 * ' ~ var('quality_days')) }} and array_length(violations) > 0
    ) as e
    cross join {{ unnest('e.violations', 'violation') }}
    where violation is not null
),

identified as (
    select i.identifier_set, max(p.n_nodes) as n_nodes
    from {{ ref('identifier_owners') }} as i
    join {{ ref('profiles') }} as p on p.profile_id = i.profile_id
    group by i.identifier_set
),

recent as (
    select
        coalesce(e.source_id, '') as source_id,
        e.event_id
        {%- for check in checks %},
        coalesce({{ check.get('of', 'true') }}, false) as asked_{{ loop.index }},
        coalesce(({{ check.get('of', 'true') }}) and ({{ check['bad'] }}), false) as bad_{{ loop.index }}
        {%- endfor %}
    from {{ ref('stg_events') }} as e
    left join copied as c on c.event_id = e.event_id
    left join off_plan as o on o.event_id = e.event_id and o.spool_id = e.spool_id and o.spool_offset = e.spool_offset
    left join identified as i on i.identifier_set = case when not e.is_bot then e.identifier_set end
    where e.received_at >= {{ add_hours(as_of(), '-24 * ' ~ var('quality_days')) }}
),

counted as (
    select
        source_id
        {%- for check in checks %},
        countif(asked_{{ loop.index }}) as asked_{{ loop.index }},
        countif(bad_{{ loop.index }}) as bad_{{ loop.index }},
        {{ lowest_list('case when bad_' ~ loop.index ~ ' then event_id end', 5) }} as sample_{{ loop.index }}
        {%- endfor %}
    from recent
    group by source_id
),

ledger as (
    select
        coalesce(source_id, '') as source_id,
        sum(case when outcome = 'received' then n else 0 end) as received,
        sum(case when outcome = 'quarantined' then n else 0 end) as quarantined,
        sum(case when outcome = 'withheld' then n else 0 end) as withheld
    from {{ source('sluis', 'ledger') }}
    where minute >= {{ add_hours(as_of(), '-24 * ' ~ var('quality_days')) }}
    group by coalesce(source_id, '')
),

-- Of an event that no longer waits there is a row that says what became of it.
waiting as (
    select
        coalesce(source_id, '') as source_id,
        count(distinct quarantine_id) as n
    from {{ source('sluis', 'quarantine') }}
    where received_at >= {{ add_hours(as_of(), '-24 * ' ~ var('quality_days')) }}
        and quarantine_id not in (select quarantine_id from {{ source('sluis', 'quarantine') }} where outcome is not null and quarantine_id is not null)
    group by coalesce(source_id, '')
),

found as (
    {%- for check in checks %}
    {% if not loop.first %}union all {% endif %}select source_id, '{{ check['name'] }}' as problem, '{{ check['verdict'] }}' as verdict, bad_{{ loop.index }} as n_bad, asked_{{ loop.index }} as n_asked, sample_{{ loop.index }} as sample_event_ids from counted
    {%- endfor %}
    union all
    select l.source_id, 'quarantined' as problem, 'inaccessible' as verdict, coalesce(w.n, 0) as n_bad, l.received as n_asked, {{ empty_list() }} as sample_event_ids
    from ledger as l
    left join waiting as w on w.source_id = l.source_id
    union all
    select source_id, 'withheld' as problem, 'inaccessible' as verdict, withheld as n_bad, received as n_asked, {{ empty_list() }} as sample_event_ids from ledger
)

select
    source_id,
    problem,
    verdict,
    cast(n_bad as int64) as n_bad,
    cast(n_asked as int64) as n_asked,
    cast(n_bad / nullif(n_asked, 0) as {{ exact() }}) as share,
    n_bad / nullif(n_asked, 0) > {{ var('bad_share') }} as is_bad,
    sample_event_ids
from found
where n_asked > 0
