{{ config(materialized='view') }}
-- The visits of int_sessions, each with its day and the channel that it came by: a
-- change of either's rules needs nothing to be built anew.
select
    session_id,
    node_key,
    started_at,
    ended_at,
    {{ local_date('started_at') }} as start_date,
    n_events,
    page_views,
    entry_page,
    exit_page,
    {{ channel() | indent(4) }} as channel,
    utm_source,
    utm_medium,
    utm_campaign,
    click_id_kind,
    referrer_host
from {{ ref('int_sessions') }}
