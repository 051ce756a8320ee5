-- The visits of int_sessions, each with its day and the channel that it came by: a
-- change of either's rules needs nothing to be built anew.
select
    session_id,
    node_key,
    started_at,
    ended_at,
    cast(timezone('UTC', started_at) as date) as start_date,
    n_events,
    page_views,
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
from sluis_models.int_sessions
