{#- The queries of a model by profile that say whose rows a run makes anew, of people
    whose events may be used for analytics:

    usable   what there is of each profile: n_events, before the moment that windows
             end at, and their fingerprint
    wanted   the profiles to read the events of: all, or in a run that adds to what
             is there, those that changed
    changed  in such a run, the profiles whose rows are to be replaced, with n_events
             and fingerprint. They have none if there is nothing of them any more

    The model has, in each row of a profile, the n_events and the fingerprint that the
    profile had when it was made. stale is a condition on rows that are to be made
    anew in any case. -#}
{% macro changed_profiles(stale) -%}
usable as (
    select profile_id, sum(n_events) as n_events, bit_xor(fingerprint) as fingerprint
    from {{ consented_behaviour() }} as b
    where not is_later
    group by profile_id
),
{%- if is_incremental() %}

made_of as (
    select
        profile_id,
        max(n_events) as n_events,
        max(fingerprint) as fingerprint,
        max(case when {{ stale }} then 1 else 0 end) as is_stale
    from {{ this }}
    group by profile_id
),

changed as (
    select coalesce(u.profile_id, m.profile_id) as profile_id, u.n_events, u.fingerprint
    from usable as u
    full outer join made_of as m on m.profile_id = u.profile_id
    where u.n_events is distinct from m.n_events or u.fingerprint is distinct from m.fingerprint or m.is_stale = 1
),

wanted as (
    select profile_id from changed where n_events is not null
),
{%- else %}

wanted as (
    select profile_id from usable
),
{%- endif %}
{%- endmacro %}

{#- FROM item of the events of the profiles in `wanted` that may be used for
    analytics. -#}
{% macro wanted_events() -%}
(
    select e.*
    from {{ ref('profile_events') }} as e
    join wanted as w on w.profile_id = e.profile_id
    where {{ array_contains('e.purposes', "'analytics'") }} and e.occurred_at < {{ as_of() }}
)
{%- endmacro %}
