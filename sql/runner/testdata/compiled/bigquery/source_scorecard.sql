-- One row per source: is what it sends stale, inaccessible, disorganised or not
-- first-party? Each with the checks that say so; data_quality has the numbers and
-- events to look at.
with sources as (
    select coalesce(source_id, '') as source_id, max(minute) as last_received_at
    from sluis.ledger
    where n > 0
    group by coalesce(source_id, '')
    union all
    select coalesce(source_id, '') as source_id, max(received_at) as last_received_at
    from sluis_models.stg_events
    group by coalesce(source_id, '')
),

seen as (
    select
        source_id,
        max(last_received_at) as last_received_at,
        max(last_received_at) < timestamp_add(current_timestamp(), interval -48 hour) as is_silent
    from sources
    group by source_id
),

judged as (
    select
        source_id,
        countif(is_bad and verdict = 'stale') > 0 as stale,
        countif(is_bad and verdict = 'inaccessible') > 0 as inaccessible,
        countif(is_bad and verdict = 'disorganised') > 0 as disorganised,
        countif(is_bad and verdict = 'not_first_party') > 0 as not_first_party,
        string_agg(case when is_bad then problem end, ', ' order by problem) as problems
    from sluis_models.data_quality
    group by source_id
)

select
    s.source_id,
    s.last_received_at,
    s.is_silent or coalesce(j.stale, false) as stale,
    coalesce(j.inaccessible, false) as inaccessible,
    coalesce(j.disorganised, false) as disorganised,
    coalesce(j.not_first_party, false) as not_first_party,
    case when s.is_silent then coalesce('silent, ' || j.problems, 'silent') else j.problems end as problems
from seen as s
left join judged as j on j.source_id = s.source_id
