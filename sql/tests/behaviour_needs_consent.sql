-- How somebody behaves is known only of those who agree to it now.
select profile_id
from {{ ref('profiles') }}
where (n_events > 0 or last_page_path is not null or first_utm_source is not null)
    and not consent_analytics
