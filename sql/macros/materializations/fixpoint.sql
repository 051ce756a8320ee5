{#- Repeats statements until nothing changes. `sluis models` has this built in;
    here it is for dbt.

    kind components: the model's query gives the edges (node_a, node_b) of a
    graph; the table has the columns node_key and cluster_id, the smallest node
    of the connected component. Each round hooks every node to its smallest
    neighbour, follows the hooks to their ends, and keeps the edges between
    what is left: a logarithmic number of rounds, whatever the graph. -#}
{% materialization fixpoint, default %}
    {%- set meta = config.get('meta') or {} -%}
    {%- set spec = meta.get('fixpoint', {}) -%}
    {%- if spec.get('kind') != 'components' -%}
        {{ exceptions.raise_compiler_error("meta.fixpoint.kind of " ~ model.name ~ " must be components") }}
    {%- endif -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set work = namespace(rounds=0, edges=1, changed=1, tables=[]) -%}
    {{ run_hooks(pre_hooks) }}

    {%- set graph_table = fixpoint_relation('graph') -%}
    {%- set edges = fixpoint_relation('edges') -%}
    {%- set next_edges = fixpoint_relation('next') -%}
    {%- set hops = fixpoint_relation('hops') -%}
    {%- set result = fixpoint_relation('result') -%}
    {% do run_query('create or replace table ' ~ graph_table ~ ' as ' ~ sql) %}
    {% do run_query('create or replace table ' ~ edges ~ ' as select distinct least(node_a, node_b) as u, greatest(node_a, node_b) as v from ' ~ graph_table ~ ' where node_a <> node_b') %}
    {% do run_query('create or replace table ' ~ result ~ ' as select node_key, node_key as root from (select node_a as node_key from ' ~ graph_table ~ ' union distinct select node_b from ' ~ graph_table ~ ') as n') %}
    {% set work.edges = run_query('select count(*) from ' ~ edges).rows[0][0] | int %}

    {% for round in range(spec.get('max_rounds', 64)) %}{% if work.edges > 0 %}
        {% do run_query('create or replace table ' ~ hops ~ ' as select v as node, min(u) as parent from ' ~ edges ~ ' group by v') %}
        {% set work.changed = 1 %}
        {% for jump in range(64) %}{% if work.changed > 0 %}
            {% do run_query('create or replace table ' ~ next_edges ~ ' as select p.node, coalesce(g.parent, p.parent) as parent, g.parent is not null as moved from ' ~ hops ~ ' as p left join ' ~ hops ~ ' as g on g.node = p.parent') %}
            {% set work.changed = run_query('select count(*) from ' ~ next_edges ~ ' where moved').rows[0][0] | int %}
            {% do run_query('create or replace table ' ~ hops ~ ' as select node, parent from ' ~ next_edges) %}
        {% endif %}{% endfor %}
        {% do run_query('create or replace table ' ~ next_edges ~ ' as select distinct least(x, y) as u, greatest(x, y) as v from (select coalesce(a.parent, e.u) as x, coalesce(b.parent, e.v) as y from ' ~ edges ~ ' as e left join ' ~ hops ~ ' as a on a.node = e.u left join ' ~ hops ~ ' as b on b.node = e.v) as r where x <> y') %}
        {% do run_query('create or replace table ' ~ edges ~ ' as select u, v from ' ~ next_edges) %}
        {% do run_query('create or replace table ' ~ next_edges ~ ' as select r.node_key, coalesce(p.parent, r.root) as root from ' ~ result ~ ' as r left join ' ~ hops ~ ' as p on p.node = r.root') %}
        {% do run_query('create or replace table ' ~ result ~ ' as select node_key, root from ' ~ next_edges) %}
        {% set work.edges = run_query('select count(*) from ' ~ edges).rows[0][0] | int %}
        {% set work.rounds = work.rounds + 1 %}
    {% endif %}{% endfor %}
    {% if work.edges > 0 %}
        {{ exceptions.raise_compiler_error('no fixpoint of ' ~ this ~ ' after ' ~ work.rounds ~ ' rounds: raise meta.fixpoint.max_rounds') }}
    {% endif %}

    {% if existing is not none and existing.type != 'table' %}{% do adapter.drop_relation(existing) %}{% endif %}
    {% call statement('main') -%}
        create or replace table {{ target_relation }} as
        select node_key, root as cluster_id from {{ result }}
    {%- endcall %}
    {% for name in ['graph', 'edges', 'next', 'hops', 'result'] %}
        {% do run_query('drop table if exists ' ~ fixpoint_relation(name)) %}
    {% endfor %}
    {{ run_hooks(post_hooks) }}
    {#- BigQuery has no transactions to commit. -#}
    {% if target.type != 'bigquery' %}{% do adapter.commit() %}{% endif %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro fixpoint_relation(name) -%}
    {{ return(api.Relation.create(database=this.database, schema=this.schema, identifier=this.identifier ~ '__fixpoint_' ~ name, type='table')) }}
{%- endmacro %}
