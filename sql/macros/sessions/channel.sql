{#- The channel that a visit came by, of what its first event with a campaign, a
    click on an ad or another site's link says; the first rule that fits. Change
    or add rules here: sessions, and what is attributed to them, follow. -#}
{% macro channel() -%}
case
    when click_id_kind in ('gclid', 'gbraid', 'wbraid', 'msclkid')
        or utm_medium in ('cpc', 'ppc', 'paidsearch', 'paid_search') and not {{ is_social('utm_source') }} then 'paid search'
    when click_id_kind in ('fbclid', 'ttclid', 'li_fat_id', 'twclid', 'sccid', 'rdt_cid') and utm_medium in ('cpc', 'ppc', 'paid', 'paidsocial', 'paid_social')
        or utm_medium in ('paidsocial', 'paid_social')
        or utm_medium in ('cpc', 'ppc', 'paid') and {{ is_social('utm_source') }} then 'paid social'
    when click_id_kind = 'dclid' or utm_medium in ('display', 'banner', 'cpm') then 'display'
    when utm_medium in ('email', 'e-mail', 'newsletter') or utm_source in ('newsletter', 'email') then 'email'
    when utm_medium = 'affiliate' then 'affiliate'
    when utm_medium in ('social', 'social-media') or click_id_kind is not null or {{ is_social('utm_source') }} or {{ is_social('referrer_host') }} then 'social'
    when utm_medium is not null or utm_source is not null then 'campaign'
    when {{ is_search('referrer_host') }} then 'organic search'
    when referrer_host is not null then 'referral'
    else 'direct'
end
{%- endmacro %}

{#- Whether a text names a network or a search engine. An unknown country's
    domain of theirs counts as any other site. -#}
{% macro is_social(text) -%}
coalesce({{ text }} in (
    'facebook', 'instagram', 'linkedin', 'twitter', 'x', 'tiktok', 'pinterest', 'reddit', 'youtube', 'threads', 'mastodon', 'bluesky',
    'facebook.com', 'www.facebook.com', 'm.facebook.com', 'l.facebook.com', 'lm.facebook.com', 'instagram.com', 'www.instagram.com', 'l.instagram.com',
    'linkedin.com', 'www.linkedin.com', 'lnkd.in', 'twitter.com', 't.co', 'x.com', 'tiktok.com', 'www.tiktok.com', 'pinterest.com', 'www.pinterest.com',
    'reddit.com', 'www.reddit.com', 'out.reddit.com', 'youtube.com', 'www.youtube.com', 'm.youtube.com', 'threads.net', 'www.threads.net', 'bsky.app'
), false)
{%- endmacro %}

{% macro is_search(text) -%}
coalesce({{ text }} in (
    'google.com', 'www.google.com', 'www.google.nl', 'www.google.de', 'www.google.be', 'www.google.fr', 'www.google.co.uk', 'www.google.es', 'www.google.it', 'www.google.pl',
    'bing.com', 'www.bing.com', 'duckduckgo.com', 'search.yahoo.com', 'www.ecosia.org', 'www.qwant.com', 'search.brave.com', 'www.startpage.com', 'kagi.com',
    'yandex.com', 'yandex.ru', 'www.baidu.com'
), false)
{%- endmacro %}
