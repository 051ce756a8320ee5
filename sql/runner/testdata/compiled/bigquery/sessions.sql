-- Visits by device, of people who agree to analytics. A visit is told by its
-- events alone, in the order in which they happened: it does not matter when they
-- arrive, and midnight is no border. It is named after its first event, so that
-- one that arrives late renames no other visit.
with devices as (
    select i.identifier_set, min(i.node_key) as node_key
    from sluis_models.stg_identifiers as i
    join sluis_models.identifier_kinds as k on k.kind = i.id_type
    where k.is_device
    group by i.identifier_set
),

visible as (
    select
        d.node_key,
        e.event_id,
        e.type,
        e.occurred_at,
        e.page_path,
        lower(e.utm_source) as utm_source,
        lower(e.utm_medium) as utm_medium,
        e.utm_campaign,
        e.click_id_kind,
        -- A link from one page of ours to another brings nobody.
        case when lower(e.referrer_host) is distinct from lower(split(split(split(e.page_url, '://')[safe_offset(1)], '/')[safe_offset(0)], ':')[safe_offset(0)]) then lower(e.referrer_host) end as referrer_host
    from sluis_models.stg_events as e
    join devices as d on d.identifier_set = e.identifier_set
    join sluis_models.identity_map as m on m.node_key = d.node_key
    join sluis_models.consent_profile as c on c.profile_id = m.profile_id and c.purpose = 'analytics' and c.allowed
    where coalesce('analytics' in unnest(e.purposes), false) and not e.is_bot and e.occurred_at < current_timestamp()
),

timed as (
    select
        v.*,
        unix_micros(v.occurred_at) as at_micros,
        lag(unix_micros(v.occurred_at)) over (partition by v.node_key order by v.occurred_at, v.event_id) as before_micros
    from visible as v
),

counted as (
    select
        t.*,
        sum(case when t.before_micros is null or t.at_micros - t.before_micros > 1800000000 then 1 else 0 end)
            over (partition by t.node_key order by t.occurred_at, t.event_id rows between unbounded preceding and current row) as run
    from timed as t
),

measured as (
    select c.*, cast(floor((c.at_micros - min(c.at_micros) over (partition by c.node_key, c.run)) / 86400000000) as int64) as part
    from counted as c
),

ranked as (
    select
        m.*,
        row_number() over (
            partition by m.node_key, m.run, m.part
            order by
                case when m.utm_source is not null or m.utm_medium is not null or m.click_id_kind is not null or m.referrer_host is not null then 0 else 1 end,
                m.occurred_at, m.event_id
        ) as arrival
    from measured as m
),

grouped as (
    select
        node_key,
        array_agg(event_id ignore nulls order by occurred_at, event_id limit 1)[safe_offset(0)] as first_event_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        count(*) as n_events,
        count(case when type = 'page' then 1 end) as page_views,
        array_agg(page_path ignore nulls order by occurred_at, event_id limit 1)[safe_offset(0)] as entry_page,
        array_agg(page_path ignore nulls order by occurred_at desc, event_id desc limit 1)[safe_offset(0)] as exit_page,
        max(case when arrival = 1 then utm_source end) as utm_source,
        max(case when arrival = 1 then utm_medium end) as utm_medium,
        max(case when arrival = 1 then utm_campaign end) as utm_campaign,
        max(case when arrival = 1 then click_id_kind end) as click_id_kind,
        max(case when arrival = 1 then referrer_host end) as referrer_host
    from ranked
    group by node_key, run, part
)

select
    concat('se_', substr(to_hex(sha256(concat(node_key, ' ', coalesce(first_event_id, '')))), 1, 24)) as session_id,
    node_key,
    started_at,
    ended_at,
    date(started_at, 'UTC') as start_date,
    cast(n_events as int64) as n_events,
    cast(page_views as int64) as page_views,
    entry_page,
    exit_page,
    case
        when click_id_kind in ('gclid', 'gbraid', 'wbraid', 'msclkid')
            or utm_medium in ('cpc', 'ppc', 'paidsearch', 'paid_search') and not coalesce(utm_source in (
        'facebook', 'instagram', 'linkedin', 'twitter', 'x', 'tiktok', 'pinterest', 'reddit', 'youtube', 'threads', 'mastodon', 'bluesky',
        'facebook.com', 'www.facebook.com', 'm.facebook.com', 'l.facebook.com', 'lm.facebook.com', 'instagram.com', 'www.instagram.com', 'l.instagram.com',
        'linkedin.com', 'www.linkedin.com', 'lnkd.in', 'twitter.com', 't.co', 'x.com', 'tiktok.com', 'www.tiktok.com', 'pinterest.com', 'www.pinterest.com',
        'reddit.com', 'www.reddit.com', 'out.reddit.com', 'youtube.com', 'www.youtube.com', 'm.youtube.com', 'threads.net', 'www.threads.net', 'bsky.app'
    ), false) then 'paid search'
        when click_id_kind in ('fbclid', 'ttclid', 'li_fat_id', 'twclid', 'sccid', 'rdt_cid') and utm_medium in ('cpc', 'ppc', 'paid', 'paidsocial', 'paid_social')
            or utm_medium in ('paidsocial', 'paid_social')
            or utm_medium in ('cpc', 'ppc', 'paid') and coalesce(utm_source in (
        'facebook', 'instagram', 'linkedin', 'twitter', 'x', 'tiktok', 'pinterest', 'reddit', 'youtube', 'threads', 'mastodon', 'bluesky',
        'facebook.com', 'www.facebook.com', 'm.facebook.com', 'l.facebook.com', 'lm.facebook.com', 'instagram.com', 'www.instagram.com', 'l.instagram.com',
        'linkedin.com', 'www.linkedin.com', 'lnkd.in', 'twitter.com', 't.co', 'x.com', 'tiktok.com', 'www.tiktok.com', 'pinterest.com', 'www.pinterest.com',
        'reddit.com', 'www.reddit.com', 'out.reddit.com', 'youtube.com', 'www.youtube.com', 'm.youtube.com', 'threads.net', 'www.threads.net', 'bsky.app'
    ), false) then 'paid social'
        when click_id_kind = 'dclid' or utm_medium in ('display', 'banner', 'cpm') then 'display'
        when utm_medium in ('email', 'e-mail', 'newsletter') or utm_source in ('newsletter', 'email') then 'email'
        when utm_medium = 'affiliate' then 'affiliate'
        when utm_medium in ('social', 'social-media') or click_id_kind is not null or coalesce(utm_source in (
        'facebook', 'instagram', 'linkedin', 'twitter', 'x', 'tiktok', 'pinterest', 'reddit', 'youtube', 'threads', 'mastodon', 'bluesky',
        'facebook.com', 'www.facebook.com', 'm.facebook.com', 'l.facebook.com', 'lm.facebook.com', 'instagram.com', 'www.instagram.com', 'l.instagram.com',
        'linkedin.com', 'www.linkedin.com', 'lnkd.in', 'twitter.com', 't.co', 'x.com', 'tiktok.com', 'www.tiktok.com', 'pinterest.com', 'www.pinterest.com',
        'reddit.com', 'www.reddit.com', 'out.reddit.com', 'youtube.com', 'www.youtube.com', 'm.youtube.com', 'threads.net', 'www.threads.net', 'bsky.app'
    ), false) or coalesce(referrer_host in (
        'facebook', 'instagram', 'linkedin', 'twitter', 'x', 'tiktok', 'pinterest', 'reddit', 'youtube', 'threads', 'mastodon', 'bluesky',
        'facebook.com', 'www.facebook.com', 'm.facebook.com', 'l.facebook.com', 'lm.facebook.com', 'instagram.com', 'www.instagram.com', 'l.instagram.com',
        'linkedin.com', 'www.linkedin.com', 'lnkd.in', 'twitter.com', 't.co', 'x.com', 'tiktok.com', 'www.tiktok.com', 'pinterest.com', 'www.pinterest.com',
        'reddit.com', 'www.reddit.com', 'out.reddit.com', 'youtube.com', 'www.youtube.com', 'm.youtube.com', 'threads.net', 'www.threads.net', 'bsky.app'
    ), false) then 'social'
        when utm_medium is not null or utm_source is not null then 'campaign'
        when coalesce(referrer_host in (
        'google.com', 'www.google.com', 'www.google.nl', 'www.google.de', 'www.google.be', 'www.google.fr', 'www.google.co.uk', 'www.google.es', 'www.google.it', 'www.google.pl',
        'bing.com', 'www.bing.com', 'duckduckgo.com', 'search.yahoo.com', 'www.ecosia.org', 'www.qwant.com', 'search.brave.com', 'www.startpage.com', 'kagi.com',
        'yandex.com', 'yandex.ru', 'www.baidu.com'
    ), false) then 'organic search'
        when referrer_host is not null then 'referral'
        else 'direct'
    end as channel,
    utm_source,
    utm_medium,
    utm_campaign,
    click_id_kind,
    referrer_host
from grouped
