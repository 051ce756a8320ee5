{#- Queries of a WITH that end in `changed`, the keys of the groups of rows that a
    model is to make anew. `sides` is a query before them that gives group_key and
    fingerprint of the rows that the model would be made of now and, beside them,
    of those that it is made of: what is on both sides cancels out, whatever
    happened since and wherever a run was interrupted.

    Few groups change, so that only few are told apart: fingerprints are first
    compared by bucket of groups, which reads all of them but keeps little. -#}
{% macro changed_groups(sides) -%}
changed_buckets as (
    select {{ bucket('group_key') }} as bucket
    from {{ sides }}
    group by bucket
    having bit_xor(fingerprint) <> 0
),

changed as (
    select s.group_key
    from {{ sides }} as s
    join changed_buckets as b on b.bucket = {{ bucket('s.group_key') }}
    group by s.group_key
    having bit_xor(s.fingerprint) <> 0
),
{%- endmacro %}

{#- One of a million numbers, by the hash of a text. -#}
{% macro bucket(text) -%}
    {{ fingerprint([text]) }} & 1048575
{%- endmacro %}
