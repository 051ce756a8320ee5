{% macro wrap(x) %}[{{ x }}]{% endmacro %}
{% macro add(a, b=1) %}{{ return(a + b) }}{% endmacro %}
{% macro pair(a, b) -%} ignored {%- do return([a, b]) -%} {%- endmacro %}
{% macro wrap_caller(x='d') %}<{{ x }}:{{ caller() }}>{% endmacro %}
{% macro each(items) %}{% for i in items %}({{ caller(i) }}){% endfor %}{% endmacro %}
{% macro varied(first) %}{{ first }}/{{ varargs }}/{{ kwargs }}{% endmacro %}
{% macro opts(a='A', b=a ~ 'B', c=none) %}{{ a }}|{{ b }}|{{ c }}{% endmacro %}
{% macro required(a, b) %}{{ a }}{{ b is defined }}{% endmacro %}
{% macro countdown(n) %}{% if n > 0 %}{{ n }},{{ countdown(n - 1) }}{% endif %}{% endmacro %}
{% macro sees() %}{{ outer is defined }}{{ s }}{% endmacro %}
{% macro early(items) %}{% for i in items %}{% if i > 1 %}{{ return(i) }}{% endif %}{{ i }}{% endfor %}none{% endmacro %}
{% macro nothing() %}{% endmacro %}
{% macro
  typed(a: str, b: List[int] = [1,]) -%}
    {{ a }}{{ b }}
{%- endmacro %}
{% macro star(from, except=[]) -%}
  {%- for c in ['a', 'b', 'c'] if c not in except %}{{ c }}{% if not loop.last %}, {% endif %}{% endfor -%}
{%- endmacro %}
{% macro has_caller() %}{% if caller %}{{ caller() }}{% else %}no{% endif %}{% endmacro %}
{% macro returns_in_caller() %}a{{ caller() }}b{% endmacro %}
{% macro outer_return() %}{% call returns_in_caller() %}{{ return('from caller') }}{% endcall %}tail{% endmacro %}
{% macro changes(items) %}{% do items.append('changed') %}{% endmacro %}
