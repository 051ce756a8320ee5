{#- What the two warehouses write differently. Models use these, and otherwise
    only SQL that both understand. -#}

{#- FROM item that has one row per element of an array, in the column `column`. -#}
{% macro unnest(array, column) -%}
    {{ return(adapter.dispatch('unnest')(array, column)) }}
{%- endmacro %}

{% macro default__unnest(array, column) -%}
    unnest({{ array }}) as {{ column }}
{%- endmacro %}

{% macro duckdb__unnest(array, column) -%}
    unnest({{ array }}) as {{ column }}_list({{ column }})
{%- endmacro %}

{#- Whether an array has an element; false if there is no array. -#}
{% macro array_contains(array, element) -%}
    {{ return(adapter.dispatch('array_contains')(array, element)) }}
{%- endmacro %}

{% macro default__array_contains(array, element) -%}
    coalesce({{ element }} in unnest({{ array }}), false)
{%- endmacro %}

{% macro duckdb__array_contains(array, element) -%}
    coalesce(list_contains({{ array }}, {{ element }}), false)
{%- endmacro %}

{#- A value inside JSON as text; NULL if there is none, or if it is an object or a
    list. Path is like '$.plan'. -#}
{% macro json_text(json, path) -%}
    {{ return(adapter.dispatch('json_text')(json, path)) }}
{%- endmacro %}

{% macro default__json_text(json, path) -%}
    json_value({{ json }}, '{{ path }}')
{%- endmacro %}

{% macro duckdb__json_text(json, path) -%}
    case when json_type({{ json }}, '{{ path }}') not in ('OBJECT', 'ARRAY') then json_extract_string({{ json }}, '{{ path }}') end
{%- endmacro %}

{#- SHA-256 of a text, in hexadecimal. Unlike an engine's own hash it is the
    same everywhere and for ever. -#}
{% macro sha256_hex(text) -%}
    {{ return(adapter.dispatch('sha256_hex')(text)) }}
{%- endmacro %}

{% macro default__sha256_hex(text) -%}
    to_hex(sha256({{ text }}))
{%- endmacro %}

{% macro duckdb__sha256_hex(text) -%}
    sha256({{ text }})
{%- endmacro %}

{#- An array of a group's values, in order, without NULL. -#}
{% macro ordered_array(value) -%}
    {{ return(adapter.dispatch('ordered_array')(value)) }}
{%- endmacro %}

{% macro default__ordered_array(value) -%}
    array_agg({{ value }} ignore nulls order by {{ value }})
{%- endmacro %}

{% macro duckdb__ordered_array(value) -%}
    array_agg({{ value }} order by {{ value }}) filter (where {{ value }} is not null)
{%- endmacro %}

{#- The instant some hours before another. -#}
{% macro hours_before(timestamp, hours) -%}
    {{ return(adapter.dispatch('hours_before')(timestamp, hours)) }}
{%- endmacro %}

{% macro default__hours_before(timestamp, hours) -%}
    timestamp_sub({{ timestamp }}, interval {{ hours }} hour)
{%- endmacro %}

{% macro duckdb__hours_before(timestamp, hours) -%}
    ({{ timestamp }} - interval {{ hours }} hour)
{%- endmacro %}

{#- A number inside JSON, exactly, to 9 decimal places; NULL if there is none. A
    number that is written as a text is one, too. -#}
{% macro json_number(json, path) -%}
    {{ return(adapter.dispatch('json_number')(json, path)) }}
{%- endmacro %}

{% macro default__json_number(json, path) -%}
    safe_cast({{ json_text(json, path) }} as numeric)
{%- endmacro %}

{% macro duckdb__json_number(json, path) -%}
    try_cast({{ json_text(json, path) }} as decimal(38, 9))
{%- endmacro %}

{#- The value of a group that comes first, or last, in the order of two columns,
    which are never NULL. Values that are NULL do not count. -#}
{% macro first_by(value, first, second) -%}
    {{ return(adapter.dispatch('first_by')(value, first, second)) }}
{%- endmacro %}

{% macro default__first_by(value, first, second) -%}
    array_agg({{ value }} ignore nulls order by {{ first }}, {{ second }} limit 1)[safe_offset(0)]
{%- endmacro %}

{% macro duckdb__first_by(value, first, second) -%}
    arg_min({{ value }}, row({{ first }}, {{ second }})) filter (where {{ value }} is not null)
{%- endmacro %}

{% macro last_by(value, first, second) -%}
    {{ return(adapter.dispatch('last_by')(value, first, second)) }}
{%- endmacro %}

{% macro default__last_by(value, first, second) -%}
    array_agg({{ value }} ignore nulls order by {{ first }} desc, {{ second }} desc limit 1)[safe_offset(0)]
{%- endmacro %}

{% macro duckdb__last_by(value, first, second) -%}
    arg_max({{ value }}, row({{ first }}, {{ second }})) filter (where {{ value }} is not null)
{%- endmacro %}

{#- The different values of a group in order, at most so many, without NULL. -#}
{% macro distinct_list(value, at_most) -%}
    {{ return(adapter.dispatch('distinct_list')(value, at_most)) }}
{%- endmacro %}

{% macro default__distinct_list(value, at_most) -%}
    coalesce(array_agg(distinct {{ value }} ignore nulls order by {{ value }} limit {{ at_most }}), [])
{%- endmacro %}

{% macro duckdb__distinct_list(value, at_most) -%}
    coalesce(array_agg(distinct {{ value }} order by {{ value }}) filter (where {{ value }} is not null), [])[1:{{ at_most }}]
{%- endmacro %}

{#- The lowest texts of a group in order, at most so many, without NULL. One that is
    there twice is in it twice. -#}
{% macro lowest_list(value, at_most) -%}
    {{ return(adapter.dispatch('lowest_list')(value, at_most)) }}
{%- endmacro %}

{% macro default__lowest_list(value, at_most) -%}
    coalesce(array_agg({{ value }} ignore nulls order by coalesce({{ value }}, '') limit {{ at_most }}), [])
{%- endmacro %}

{% macro duckdb__lowest_list(value, at_most) -%}
    coalesce(min({{ value }}, {{ at_most }}), [])
{%- endmacro %}

{#- The host in a URL, in small letters; NULL if there is no URL. -#}
{% macro url_host(url) -%}
    {{ return(adapter.dispatch('url_host')(url)) }}
{%- endmacro %}

{% macro default__url_host(url) -%}
    lower(split(split(split({{ url }}, '://')[safe_offset(1)], '/')[safe_offset(0)], ':')[safe_offset(0)])
{%- endmacro %}

{% macro duckdb__url_host(url) -%}
    lower(split_part(split_part(split_part({{ url }}, '://', 2), '/', 1), ':', 1))
{%- endmacro %}

{#- A list of no texts. -#}
{% macro empty_list() -%}
    {{ return(adapter.dispatch('empty_list')()) }}
{%- endmacro %}

{% macro default__empty_list() -%}
    array<string>[]
{%- endmacro %}

{% macro duckdb__empty_list() -%}
    cast([] as varchar[])
{%- endmacro %}

{#- The type of exact numbers, of 9 decimal places. -#}
{% macro exact() -%}
    {{ return(adapter.dispatch('exact')()) }}
{%- endmacro %}

{% macro default__exact() -%}
    numeric
{%- endmacro %}

{% macro duckdb__exact() -%}
    decimal(38, 9)
{%- endmacro %}

{#- The AS of a query in WITH, in a long chain of them: it has DuckDB compute this one
    by itself. Its optimizer would else take time that doubles with each link. -#}
{% macro as_computed() -%}
    {{ return(adapter.dispatch('as_computed')()) }}
{%- endmacro %}

{% macro default__as_computed() -%}
    as
{%- endmacro %}

{% macro duckdb__as_computed() -%}
    as materialized
{%- endmacro %}

{#- The AS of a query in WITH that reads much and is named several times: it has
    DuckDB read again what each of these needs, and not keep all of it in memory. -#}
{% macro as_read_again() -%}
    {{ return(adapter.dispatch('as_read_again')()) }}
{%- endmacro %}

{% macro default__as_read_again() -%}
    as
{%- endmacro %}

{% macro duckdb__as_read_again() -%}
    as not materialized
{%- endmacro %}

{#- The value of the row of a group whose number is the lowest, or the highest. Rows
    without a number do not count, and the value is never NULL where there is one. -#}
{% macro lowest_by(value, number) -%}
    {{ return(adapter.dispatch('lowest_by')(value, number)) }}
{%- endmacro %}

{% macro default__lowest_by(value, number) -%}
    case when count({{ number }}) > 0 then any_value({{ value }} having min {{ number }}) end
{%- endmacro %}

{% macro duckdb__lowest_by(value, number) -%}
    min_by({{ value }}, {{ number }})
{%- endmacro %}

{% macro highest_by(value, number) -%}
    {{ return(adapter.dispatch('highest_by')(value, number)) }}
{%- endmacro %}

{% macro default__highest_by(value, number) -%}
    case when count({{ number }}) > 0 then any_value({{ value }} having max {{ number }}) end
{%- endmacro %}

{% macro duckdb__highest_by(value, number) -%}
    max_by({{ value }}, {{ number }})
{%- endmacro %}
