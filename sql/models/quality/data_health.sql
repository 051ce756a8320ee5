-- The state of the data as a whole: how much of it is first-party, and whether
-- identities are what they should be. Each measure counts n of so many.
with people as (
    select
        count(*) as n_profiles,
        countif(is_known) as n_known,
        countif(n_nodes > {{ var('crowded_nodes') }}) as n_crowded,
        coalesce(sum(n_nodes), 0) as n_nodes,
        coalesce(max(n_nodes), 0) as n_largest
    from {{ ref('profiles') }}
),

events as (
    select
        countif(problem = 'third_party') as n_sources,
        coalesce(sum(case when problem = 'third_party' then n_asked end), 0) as n_events,
        coalesce(sum(case when problem = 'third_party' then n_asked - n_bad end), 0) as n_first_party
    from {{ ref('data_quality') }}
),

links as (
    select
        (select count(*) from {{ ref('identity_edges') }}) as n_links,
        (select count(*) from {{ ref('identity_rejected_edges') }}) as n_rejected,
        (select count(distinct node_key) from {{ ref('identity_shared_nodes') }}) as n_shared
),

verdicts as (
    select
        count(*) as n_sources,
        countif(stale or inaccessible or disorganised or not_first_party) as n_bad
    from {{ ref('source_scorecard') }}
),

measured as (
    select 'first_party_events' as measure, n_first_party as n, n_events as n_of from events
    union all select 'bad_sources' as measure, n_bad as n, n_sources as n_of from verdicts
    union all select 'known_profiles' as measure, n_known as n, n_profiles as n_of from people
    union all select 'crowded_profiles' as measure, n_crowded as n, n_profiles as n_of from people
    union all select 'identifiers_of_the_largest_profile' as measure, n_largest as n, n_nodes as n_of from people
    union all select 'shared_identifiers' as measure, l.n_shared as n, p.n_nodes as n_of from links as l cross join people as p
    union all select 'rejected_links' as measure, n_rejected as n, n_links as n_of from links
)

select
    measure,
    cast(n as int64) as n,
    cast(n_of as int64) as n_of,
    cast(n / nullif(n_of, 0) as {{ exact() }}) as share
from measured
