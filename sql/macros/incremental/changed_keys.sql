{#- The query `changed` of a WITH: the keys that a model is to make anew, with the
    fingerprints of what it would make them of now; NULL of one that is no more. `told`
    is a query before it that gives key and fingerprint, each key once. A run that makes
    all anew has all of them. -#}
{% macro changed_keys(told, key) -%}
changed as (
    {%- if is_incremental() %}
    select coalesce(found.{{ key }}, made.{{ key }}) as {{ key }}, found.fingerprint
    from {{ told }} as found
    full outer join (select {{ key }}, max(fingerprint) as fingerprint from {{ this }} group by {{ key }}) as made on made.{{ key }} = found.{{ key }}
    where found.fingerprint is distinct from made.fingerprint
    {%- else %}
    select {{ key }}, fingerprint from {{ told }}
    {%- endif %}
),
{%- endmacro %}
