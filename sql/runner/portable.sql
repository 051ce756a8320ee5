{#- What dbt's own macros say, in one line each: what warehouses write differently. A project that defines duckdb__dateadd,
    say, or default__dateadd, has that instead, as under dbt. -#}

{% macro duckdb__type_string() %}text{% endmacro %}
{% macro bigquery__type_string() %}string{% endmacro %}
{% macro default__type_timestamp() %}timestamp{% endmacro %}
{% macro duckdb__type_float() %}float{% endmacro %}
{% macro bigquery__type_float() %}float64{% endmacro %}
{% macro duckdb__type_numeric() %}numeric(28,6){% endmacro %}
{% macro bigquery__type_numeric() %}numeric{% endmacro %}
{% macro default__type_bigint() %}bigint{% endmacro %}
{% macro duckdb__type_int() %}integer{% endmacro %}
{% macro bigquery__type_int() %}int64{% endmacro %}
{% macro default__type_boolean() %}boolean{% endmacro %}

{% macro duckdb__current_timestamp() %}now(){% endmacro %}
{% macro bigquery__current_timestamp() %}current_timestamp(){% endmacro %}

{% macro duckdb__any_value(expression) %}arbitrary({{ expression }}){% endmacro %}
{% macro bigquery__any_value(expression) %}any_value({{ expression }}){% endmacro %}
{% macro duckdb__bool_or(expression) %}bool_or({{ expression }}){% endmacro %}
{% macro bigquery__bool_or(expression) %}logical_or({{ expression }}){% endmacro %}

{% macro duckdb__array_append(array, new_element) %}array_append({{ array }}, {{ new_element }}){% endmacro %}
{% macro bigquery__array_append(array, new_element) %}{{ dbt.array_concat(array, dbt.array_construct([new_element])) }}{% endmacro %}
{% macro duckdb__array_concat(array_1, array_2) %}array_cat({{ array_1 }}, {{ array_2 }}){% endmacro %}
{% macro bigquery__array_concat(array_1, array_2) %}array_concat({{ array_1 }}, {{ array_2 }}){% endmacro %}
{% macro duckdb__array_construct(inputs=[], data_type='integer') %}{% if inputs %}array[ {{ inputs | join(' , ') }} ]{% else %}array[]::{{ data_type }}[]{% endif %}{% endmacro %}
{% macro bigquery__array_construct(inputs=[], data_type='int64') %}{% if inputs %}[ {{ inputs | join(' , ') }} ]{% else %}array<{{ data_type }}>[]{% endif %}{% endmacro %}

{% macro default__cast(field, type) %}cast({{ field }} as {{ type }}){% endmacro %}
{% macro duckdb__safe_cast(field, type) %}cast({{ field }} as {{ type }}){% endmacro %}
{% macro bigquery__safe_cast(field, type) %}safe_cast({{ field }} as {{ type }}){% endmacro %}
{% macro default__cast_bool_to_text(field) %}cast({{ field }} as {{ dbt.type_string() }}){% endmacro %}

{% macro default__concat(fields) %}{{ fields | join(' || ') }}{% endmacro %}
{% macro default__equals(expr1, expr2) %}({{ expr1 }} = {{ expr2 }}){% endmacro %}
{% macro duckdb__hash(field) %}md5(cast({{ field }} as {{ dbt.type_string() }})){% endmacro %}
{% macro bigquery__hash(field) %}to_hex(md5(cast({{ field }} as {{ dbt.type_string() }}))){% endmacro %}
{% macro default__length(expression) %}length( {{ expression }} ){% endmacro %}
{% macro duckdb__position(substring_text, string_text) %}position( {{ substring_text }} in {{ string_text }} ){% endmacro %}
{% macro bigquery__position(substring_text, string_text) %}strpos( {{ string_text }}, {{ substring_text }} ){% endmacro %}
{% macro default__replace(field, old_chars, new_chars) %}replace( {{ field }}, {{ old_chars }}, {{ new_chars }} ){% endmacro %}
{% macro duckdb__right(string_text, length_expression) %}right( {{ string_text }}, {{ length_expression }} ){% endmacro %}
{% macro bigquery__right(string_text, length_expression) %}case when {{ length_expression }} = 0 then '' else substr( {{ string_text }}, -1 * ({{ length_expression }}) ) end{% endmacro %}
{% macro duckdb__split_part(string_text, delimiter_text, part_number) %}string_split({{ string_text }}, {{ delimiter_text }})[ {{ part_number }} ]{% endmacro %}
{% macro bigquery__split_part(string_text, delimiter_text, part_number) -%}
    {%- if part_number >= 0 -%}
        split( {{ string_text }}, {{ delimiter_text }} )[safe_offset({{ part_number - 1 }})]
    {%- else -%}
        split( {{ string_text }}, {{ delimiter_text }} )[safe_offset( length({{ string_text }}) - length( replace({{ string_text }}, {{ delimiter_text }}, '') ) + 1 + {{ part_number }} )]
    {%- endif -%}
{%- endmacro %}
{% macro duckdb__escape_single_quotes(expression) %}{{ expression | replace("'", "''") }}{% endmacro %}
{% macro bigquery__escape_single_quotes(expression) %}{{ expression | replace("'", "\\'") }}{% endmacro %}
{% macro duckdb__string_literal(value) %}'{{ value }}'{% endmacro %}
{% macro bigquery__string_literal(value) %}'''{{ value }}'''{% endmacro %}

{% macro duckdb__except() %}except{% endmacro %}
{% macro bigquery__except() %}except distinct{% endmacro %}
{% macro duckdb__intersect() %}intersect{% endmacro %}
{% macro bigquery__intersect() %}intersect distinct{% endmacro %}

{% macro duckdb__listagg(measure, delimiter_text="','", order_by_clause=none, limit_num=none) -%}
    {%- if limit_num -%}
        list_aggr( (array_agg( {{ measure }} {{ order_by_clause or '' }} ))[1:{{ limit_num }}], 'string_agg', {{ delimiter_text }} )
    {%- else -%}
        string_agg( {{ measure }}, {{ delimiter_text }} {{ order_by_clause or '' }} )
    {%- endif -%}
{%- endmacro %}
{% macro bigquery__listagg(measure, delimiter_text="','", order_by_clause=none, limit_num=none) -%}
    string_agg( {{ measure }}, {{ delimiter_text }} {{ order_by_clause or '' }}{% if limit_num %} limit {{ limit_num }}{% endif %} )
{%- endmacro %}

{% macro duckdb__date(year, month, day) %}make_date({{ year }}, {{ month }}, {{ day }}){% endmacro %}
{% macro bigquery__date(year, month, day) %}date({{ year }}, {{ month }}, {{ day }}){% endmacro %}
{% macro duckdb__date_trunc(datepart, date) %}date_trunc('{{ datepart }}', {{ date }}){% endmacro %}
{% macro bigquery__date_trunc(datepart, date) %}timestamp_trunc(cast({{ date }} as timestamp), {{ datepart }}){% endmacro %}
{% macro duckdb__dateadd(datepart, interval, from_date_or_timestamp) %}({{ from_date_or_timestamp }} + cast({{ interval }} as bigint) * interval 1 {{ datepart }}){% endmacro %}
{% macro bigquery__dateadd(datepart, interval, from_date_or_timestamp) %}datetime_add( cast( {{ from_date_or_timestamp }} as datetime), interval {{ interval }} {{ datepart }} ){% endmacro %}
{% macro duckdb__datediff(first_date, second_date, datepart) -%}
    {%- if datepart == 'week' -%}
        ({{ dbt.datediff(first_date, second_date, 'day') }} // 7 + case
            when date_part('dow', ({{ first_date }})::timestamp) <= date_part('dow', ({{ second_date }})::timestamp) then
                case when {{ first_date }} <= {{ second_date }} then 0 else -1 end
            else
                case when {{ first_date }} <= {{ second_date }} then 1 else 0 end
        end)
    {%- else -%}
        (date_diff('{{ datepart }}', {{ first_date }}::timestamp, {{ second_date }}::timestamp ))
    {%- endif -%}
{%- endmacro %}
{% macro bigquery__datediff(first_date, second_date, datepart) %}datetime_diff( cast({{ second_date }} as datetime), cast({{ first_date }} as datetime), {{ datepart }} ){% endmacro %}
{% macro duckdb__last_day(date, datepart) -%}
    {%- if datepart == 'quarter' -%}
        -- duckdb dateadd does not support quarter interval.
        cast( {{ dbt.dateadd('day', '-1', dbt.dateadd('month', '3', dbt.date_trunc(datepart, date))) }} as date)
    {%- else -%}
        cast( {{ dbt.dateadd('day', '-1', dbt.dateadd(datepart, '1', dbt.date_trunc(datepart, date))) }} as date)
    {%- endif -%}
{%- endmacro %}
{% macro bigquery__last_day(date, datepart) %}cast( {{ dbt.dateadd('day', '-1', dbt.dateadd(datepart, '1', dbt.date_trunc(datepart, date))) }} as date){% endmacro %}

{% macro default__get_powers_of_two(upper_bound) -%}
    {%- if upper_bound <= 0 -%}{{ exceptions.raise_compiler_error('upper bound must be positive') }}{%- endif -%}
    {%- for _ in range(1, 63) -%}{%- if upper_bound <= 2 ** loop.index -%}{{ return(loop.index) }}{%- endif -%}{%- endfor -%}
{%- endmacro %}
{% macro duckdb__generate_series(upper_bound) %}select generate_series as generated_number from generate_series(1, {{ upper_bound }}){% endmacro %}
{% macro bigquery__generate_series(upper_bound) -%}
{%- set n = dbt.get_powers_of_two(upper_bound) -%}
with p as (
    select 0 as generated_number union all select 1
), unioned as (
    select {% for i in range(n) %}p{{ i }}.generated_number * power(2, {{ i }}) {% if not loop.last %}+ {% endif %}{% endfor %}+ 1 as generated_number
    from {% for i in range(n) %}p as p{{ i }}{% if not loop.last %} cross join {% endif %}{% endfor %}
)
select *
from unioned
where generated_number <= {{ upper_bound }}
order by generated_number
{%- endmacro %}
{% macro default__get_intervals_between(start_date, end_date, datepart) -%}
    {%- if not execute -%}{{ return(1) }}{%- endif -%}
    {{ return(run_query('select ' ~ dbt.datediff(start_date, end_date, datepart))[0][0]) }}
{%- endmacro %}
{% macro default__date_spine(datepart, start_date, end_date) -%}
with rawdata as (
    {{ dbt.generate_series(dbt.get_intervals_between(start_date, end_date, datepart)) }}
),

all_periods as (
    select ( {{ dbt.dateadd(datepart, 'row_number() over (order by 1) - 1', start_date) }} ) as date_{{ datepart }}
    from rawdata
),

filtered as (
    select *
    from all_periods
    where date_{{ datepart }} <= {{ end_date }}
)

select * from filtered
{%- endmacro %}
