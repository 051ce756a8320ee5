What lands from the moment of the event {from} to that of the event {until}, by
landing table. An event is a number, and so is a device; whatever else there is
follows from these. Event n happens at n/{all} of the time.

-- table events
WITH numbered AS (
    SELECT n, n // 10 AS visit, n % 10 AS place
    FROM range(greatest(0, {from} - {all} * 4 // {days}), {until}) AS r(n)
),
known AS (
    SELECT
        *,
        CAST(floor({devices} * pow((hash('visit', visit) % 1000000) / 1000000.0, 2)) AS BIGINT) AS device,
        (visit * 10.0 / {all} * {days} * 86400 + place * (20 + hash('pause', visit) % 60)) AS seconds,
        hash('luck', n) % 100 AS luck
    FROM numbered
),
arriving AS (
    SELECT *, 0 AS copy, seconds + CASE WHEN luck = 7 THEN hash('late', n) % (3 * 86400) ELSE 1 END AS arrives FROM known
    UNION ALL
    SELECT *, 1 AS copy, seconds + 3600 + hash('again', n) % 7200 AS arrives FROM known WHERE luck = 8
),
landing AS (
    SELECT *, hash('person', device) % 200 AS person, device % 3 = 0 AND place >= 3 AS signed_in,
        ('' || (hash('x', visit) % 997)) AS item
    FROM arriving
    WHERE least(arrives / (86400.0 * {days}) * {all}, {all} - 1) >= {from} AND least(arrives / (86400.0 * {days}) * {all}, {all} - 1) < {until}
),
decided AS (
    SELECT *, person >= 10 AND person < 20 AND seconds >= {days} * 86400 * (hash('refusal', device) % 1000) / 1000.0 AS refuses
    FROM landing
)
SELECT
    'ajs-next-' || md5('event' || n) AS event_id,
    'web' AS source_id,
    CASE WHEN place = 3 AND signed_in THEN 'identify' WHEN place IN (5, 8) THEN 'track' ELSE 'page' END AS type,
    CASE WHEN type = 'track' THEN CASE WHEN place = 8 AND visit % 12 = 0 THEN 'Order Completed' WHEN place = 8 AND visit % 5 = 0 THEN 'Live Chat Started' ELSE 'Product Viewed' END END AS event,
    TIMESTAMPTZ '{begin}+00' + to_microseconds(CAST(floor(seconds * 1000000) AS BIGINT)) AS occurred_at,
    TIMESTAMPTZ '{begin}+00' + to_microseconds(CAST(floor(arrives * 1000000) AS BIGINT)) AS received_at,
    'a1_' || md5('device' || device) AS anonymous_id,
    CASE WHEN signed_in THEN 'u1_' || md5('user' || (device // 6)) END AS user_id,
    CASE WHEN signed_in AND device % 30 = 0 THEN 'company' || (device // 300) END AS group_id,
    CASE WHEN signed_in AND person >= 10 THEN [{'kind': 'anonymous_id', 'pseudonym': anonymous_id}, {'kind': 'user_id', 'pseudonym': user_id}]
        ELSE [{'kind': 'anonymous_id', 'pseudonym': anonymous_id}] END AS identifiers,
    CASE WHEN person < 10 THEN ['necessary', 'analytics'] WHEN refuses THEN ['necessary', 'identity', 'personalization']
        ELSE ['necessary', 'identity', 'analytics', 'personalization', 'marketing'] END AS purposes,
    CASE WHEN refuses THEN ['analytics', 'marketing', 'advertising', 'sale'] ELSE ['advertising', 'sale'] END AS denied,
    md5('decision' || device || refuses) AS decision_id,
    '1' AS policy_version,
    'NL' AS region,
    CASE place WHEN 0 THEN '/' WHEN 4 THEN '/pricing' ELSE '/jackets/' || (hash(n) % 500) END AS page_path,
    'https://www.shop.example' || page_path AS page_url,
    'Jackets for men and women | Shop' AS page_title,
    CASE WHEN place > 0 THEN 'www.shop.example' WHEN visit % 3 = 0 THEN 'www.google.com' WHEN visit % 7 = 0 THEN 'news.example' END AS referrer_host,
    CASE WHEN place = 0 AND visit % 4 = 1 THEN 'newsletter' WHEN place = 0 AND visit % 10 = 2 THEN 'ads' || (visit % 30) END AS utm_source,
    CASE WHEN place = 0 AND visit % 4 = 1 THEN 'email' WHEN place = 0 AND visit % 10 = 2 THEN 'cpc' END AS utm_medium,
    CASE WHEN utm_source IS NOT NULL THEN 'campaign' || (visit % 17) END AS utm_campaign,
    'desktop' AS device_class,
    person = 199 AND device > 100 AS is_bot,
    CASE WHEN event = 'Order Completed' THEN '{"order_id":"o' || n || '","total":' || (hash('total', n) % 20000) / 100.0 || ',"currency":"EUR","products":[{"sku":"' || item || '"}]}'
        ELSE '{"product_id":"' || item || '","category":"jackets","position":' || place || '}' END AS properties,
    CASE WHEN type = 'identify' THEN '{"plan":"' || CASE device % 3 WHEN 0 THEN 'pro' ELSE 'free' END || '"}' END AS traits,
    '{"library":{"name":"analytics.js","version":"npm:next-1.81.0"},"locale":"en-GB","timezone":"Europe/Amsterdam","screen":{"width":1920}}' AS context,
    '1' AS plan_version,
    'bench' AS spool_id,
    {offset} + row_number() OVER (ORDER BY arrives, n, copy) AS spool_offset
FROM decided

-- table consents
WITH choices AS (
    SELECT device, hash('person', device) % 200 AS person, hash('choice', device) % 1000 AS moment, false AS refuses FROM range({devices}) AS r(device)
    UNION ALL
    SELECT device, hash('person', device) % 200 AS person, hash('refusal', device) % 1000 AS moment, true AS refuses
    FROM range({devices}) AS r(device)
    WHERE person >= 10 AND person <= 20
)
SELECT
    md5('decision' || device || refuses) AS decision_id,
    'a1_' || md5('device' || device) AS pseudonym,
    purpose,
    CASE WHEN refuses AND person = 20 THEN purpose <> 'identity'
        WHEN refuses THEN purpose IN ('necessary', 'identity', 'personalization')
        WHEN person < 10 THEN purpose IN ('necessary', 'analytics')
        ELSE purpose NOT IN ('advertising', 'sale') END AS granted,
    'api' AS signal,
    '1' AS policy_version,
    'web' AS source_id,
    TIMESTAMPTZ '{begin}+00' + to_seconds(CAST(floor(moment / 1000.0 * {days} * 86400) AS BIGINT)) AS decided_at,
    decided_at AS received_at,
    'bench' AS spool_id,
    {offset} + row_number() OVER (ORDER BY moment, device, purpose) AS spool_offset
FROM choices
CROSS JOIN (SELECT unnest(['necessary', 'identity', 'analytics', 'personalization', 'marketing', 'advertising', 'sale']) AS purpose)
WHERE moment / 1000.0 * {all} >= {from} AND moment / 1000.0 * {all} < {until}

-- table vault
SELECT
    'u1_' || md5('user' || person) AS pseudonym,
    'email' AS field,
    purpose,
    'key' AS key_id,
    encode(md5('sealed' || person || purpose)) AS ciphertext,
    md5('token' || person) AS token,
    md5('decision' || person) AS decision_id,
    TIMESTAMPTZ '{begin}+00' + to_seconds(CAST(floor(moment / 1000.0 * {days} * 86400) AS BIGINT)) AS received_at,
    'bench' AS spool_id,
    {offset} + row_number() OVER (ORDER BY moment, person, purpose) AS spool_offset
FROM (SELECT person, hash('vault', person) % 1000 AS moment FROM range({devices} // 6) AS r(person))
CROSS JOIN (SELECT unnest(['personalization', 'marketing']) AS purpose)
WHERE moment / 1000.0 * {all} >= {from} AND moment / 1000.0 * {all} < {until}

-- table ledger
SELECT
    'web' AS source_id,
    TIMESTAMPTZ '{begin}+00' + to_minutes(minute) AS minute,
    'received' AS outcome,
    CAST(NULL AS VARCHAR) AS reason,
    CAST({all} // ({days} * 1440) + 1 AS BIGINT) AS n,
    'bench' AS spool_id,
    {offset} + minute AS spool_offset
FROM range({days} * 1440) AS r(minute)
WHERE minute / (1440.0 * {days}) * {all} >= {from} AND minute / (1440.0 * {days}) * {all} < {until}
