{#- Repeats statements until nothing changes. `sluis models` has this built in;
    here it is for dbt.

    kind components: the model's query gives the edges (node_a, node_b) of a
    graph; the table has the columns node_key and cluster_id, the smallest node
    of the connected component. If it is incremental, the query gives evidence,
    too, and the table has the fingerprint by which `sluis models` finds what
    changed. dbt solves the graph whole, which gives the same.

    kind limits: the query gives the edges of clusters that are too large, with
    the kinds of their ends, how many of each a part has at most, and the order
    in which edges are followed; the table has the columns node_key, part_id, the
    smallest node of its part, and entity_id, the smallest node that it was
    declared to be the same as. -#}
{% materialization fixpoint, default %}
    {%- set meta = config.get('meta') or {} -%}
    {%- set spec = meta.get('fixpoint', {}) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks) }}

    {% do fixpoint_table('graph', sql) %}
    {% if spec.get('kind') == 'components' %}
        {% do fixpoint_components(spec.get('max_rounds', 64), 'select node_a, node_b from ' ~ fixpoint_relation('graph')) %}
        {% set answer = 'select node_key, root as cluster_id from ' ~ fixpoint_relation('result') %}
        {% if spec.get('incremental') %}
            {% set fingerprints = 'select node_key, bit_xor(evidence) as fingerprint from (select node_a as node_key, evidence from ' ~ fixpoint_relation('graph') ~ ' union all select node_b, 0 from ' ~ fixpoint_relation('graph') ~ ' where node_a <> node_b) as n group by node_key' %}
            {% set answer = 'select r.node_key, r.root as cluster_id, f.fingerprint from ' ~ fixpoint_relation('result') ~ ' as r join (' ~ fingerprints ~ ') as f on f.node_key = r.node_key' %}
        {% endif %}
    {% elif spec.get('kind') == 'limits' %}
        {% do fixpoint_limits(spec.get('max_rounds', 64)) %}
        {% set answer = 'select node_key, part as part_id, entity as entity_id from ' ~ fixpoint_relation('parts') %}
    {% else %}
        {{ exceptions.raise_compiler_error("meta.fixpoint.kind of " ~ model.name ~ " must be components or limits") }}
    {% endif %}

    {%- set contract = config.get('contract') -%}
    {% if contract and contract.enforced %}{% do get_assert_columns_equivalent(answer) %}{% endif %}
    {% if existing is not none and existing.type != 'table' %}{% do adapter.drop_relation(existing) %}{% endif %}
    {% call statement('main') -%}
        create or replace table {{ target_relation }} as
        {{ answer }}
    {%- endcall %}
    {% for name in ['graph', 'edges', 'next', 'hops', 'result', 'parts', 'pairs'] %}
        {% do run_query('drop table if exists ' ~ fixpoint_relation(name)) %}
    {% endfor %}
    {{ run_hooks(post_hooks) }}
    {#- BigQuery has no transactions to commit. -#}
    {% if target.type != 'bigquery' %}{% do adapter.commit() %}{% endif %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#- Leaves the smallest node of the component of each node of a graph in the
    table result. Each round hooks every node to its smallest neighbour, follows
    the hooks to their ends, and keeps the edges between what is left: a
    logarithmic number of rounds, whatever the graph. -#}
{% macro fixpoint_components(max_rounds, graph) -%}
    {%- set edges = fixpoint_relation('edges') -%}
    {%- set next_edges = fixpoint_relation('next') -%}
    {%- set hops = fixpoint_relation('hops') -%}
    {%- set result = fixpoint_relation('result') -%}
    {%- set work = namespace(rounds=0, edges=1, changed=1) -%}
    {% do fixpoint_table('edges', 'select distinct least(node_a, node_b) as u, greatest(node_a, node_b) as v from (' ~ graph ~ ') as g where node_a <> node_b') %}
    {% do fixpoint_table('result', 'select node_key, node_key as root from (select node_a as node_key from (' ~ graph ~ ') as g union distinct select node_b from (' ~ graph ~ ') as g) as n') %}
    {% set work.edges = fixpoint_count(edges) %}
    {% for round in range(max_rounds) %}{% if work.edges > 0 %}
        {% do fixpoint_table('hops', 'select v as node, min(u) as parent from ' ~ edges ~ ' group by v') %}
        {% set work.changed = 1 %}
        {% for jump in range(64) %}{% if work.changed > 0 %}
            {% do fixpoint_table('next', 'select p.node, coalesce(g.parent, p.parent) as parent, g.parent is not null as moved from ' ~ hops ~ ' as p left join ' ~ hops ~ ' as g on g.node = p.parent') %}
            {% set work.changed = fixpoint_count('(select 1 from ' ~ next_edges ~ ' where moved) as m') %}
            {% do fixpoint_table('hops', 'select node, parent from ' ~ next_edges) %}
        {% endif %}{% endfor %}
        {% do fixpoint_table('next', 'select distinct least(x, y) as u, greatest(x, y) as v from (select coalesce(a.parent, e.u) as x, coalesce(b.parent, e.v) as y from ' ~ edges ~ ' as e left join ' ~ hops ~ ' as a on a.node = e.u left join ' ~ hops ~ ' as b on b.node = e.v) as r where x <> y') %}
        {% do fixpoint_table('edges', 'select u, v from ' ~ next_edges) %}
        {% do fixpoint_table('next', 'select r.node_key, coalesce(p.parent, r.root) as root from ' ~ result ~ ' as r left join ' ~ hops ~ ' as p on p.node = r.root') %}
        {% do fixpoint_table('result', 'select node_key, root from ' ~ next_edges) %}
        {% set work.edges = fixpoint_count(edges) %}
        {% set work.rounds = work.rounds + 1 %}
    {% endif %}{% endfor %}
    {% if work.edges > 0 %}
        {{ exceptions.raise_compiler_error('no fixpoint of ' ~ this ~ ' after ' ~ work.rounds ~ ' rounds: raise meta.fixpoint.max_rounds') }}
    {% endif %}
{%- endmacro %}

{#- Leaves the parts of the graph in the table parts. What was declared to be the
    same is one from the start, an entity. In each round, an edge that is the best
    of both parts that it goes between either joins them or, if they had too much
    together, is left out with all others between them. No edge before it could
    have changed that, so this is what following all edges in their order gives;
    `sluis models` does that. -#}
{% macro fixpoint_limits(max_rounds) -%}
    {%- set graph = fixpoint_relation('graph') -%}
    {%- set edges = fixpoint_relation('edges') -%}
    {%- set parts = fixpoint_relation('parts') -%}
    {%- set pairs = fixpoint_relation('pairs') -%}
    {%- set ends = '(select node_a as node_key, kind_a as kind, limit_a as most, max_nodes from ' ~ graph ~ ' union distinct select node_b, kind_b, limit_b, max_nodes from ' ~ graph ~ ') as n' -%}
    {%- set work = namespace(rounds=0, edges=1) -%}
    {% do fixpoint_components(max_rounds, 'select node_a, node_b from ' ~ graph ~ ' where is_declared union all select node_a, node_a from ' ~ graph ~ ' union all select node_b, node_b from ' ~ graph) %}
    {% do fixpoint_table('parts', 'select n.node_key, n.kind, n.most, n.max_nodes, r.root as entity, r.root as part from ' ~ ends ~ ' join ' ~ fixpoint_relation('result') ~ ' as r on r.node_key = n.node_key') %}
    {% do fixpoint_table('edges', 'select node_a, node_b, place from ' ~ graph ~ ' where not is_declared') %}
    {% set work.edges = fixpoint_count(edges) %}
    {% for round in range(max_rounds) %}{% if work.edges > 0 %}
        {% do fixpoint_table('pairs', "
            with candidates as (
                select least(x.part, y.part) as lo, greatest(x.part, y.part) as hi, min(e.place) as place
                from " ~ edges ~ " as e
                join " ~ parts ~ " as x on x.node_key = e.node_a
                join " ~ parts ~ " as y on y.node_key = e.node_b
                where x.part <> y.part
                group by 1, 2
            ),
            best as (
                select part, min(place) as place
                from (select lo as part, place from candidates union all select hi as part, place from candidates) as c
                group by part
            ),
            dominant as (
                select c.lo, c.hi
                from candidates as c
                join best as p on p.part = c.lo and p.place = c.place
                join best as q on q.part = c.hi and q.place = c.place
            ),
            members as (
                select d.lo, d.hi, n.kind, n.most, n.max_nodes, n.entity, n.node_key
                from dominant as d join " ~ parts ~ " as n on n.part = d.lo
                union all
                select d.lo, d.hi, n.kind, n.most, n.max_nodes, n.entity, n.node_key
                from dominant as d join " ~ parts ~ " as n on n.part = d.hi
            ),
            bad as (
                select lo, hi from members group by lo, hi, kind, most having count(distinct entity) > most
                union distinct
                select lo, hi from members group by lo, hi, max_nodes having count(*) > max_nodes
            )
            select d.lo, d.hi, b.lo is not null as is_bad
            from dominant as d left join bad as b on b.lo = d.lo and b.hi = d.hi") %}
        {% do fixpoint_table('next', "
            select e.node_a, e.node_b, e.place
            from " ~ edges ~ " as e
            join " ~ parts ~ " as x on x.node_key = e.node_a
            join " ~ parts ~ " as y on y.node_key = e.node_b
            left join " ~ pairs ~ " as p on p.lo = least(x.part, y.part) and p.hi = greatest(x.part, y.part)
            where x.part <> y.part and p.lo is null") %}
        {% do fixpoint_table('edges', 'select node_a, node_b, place from ' ~ fixpoint_relation('next')) %}
        {% do fixpoint_table('next', 'select n.node_key, n.kind, n.most, n.max_nodes, n.entity, coalesce(p.lo, n.part) as part from ' ~ parts ~ ' as n left join ' ~ pairs ~ ' as p on p.hi = n.part and not p.is_bad') %}
        {% do fixpoint_table('parts', 'select node_key, kind, most, max_nodes, entity, part from ' ~ fixpoint_relation('next')) %}
        {% set work.edges = fixpoint_count(edges) %}
        {% set work.rounds = work.rounds + 1 %}
    {% endif %}{% endfor %}
    {% if work.edges > 0 %}
        {{ exceptions.raise_compiler_error('no fixpoint of ' ~ this ~ ' after ' ~ work.rounds ~ ' rounds: raise meta.fixpoint.max_rounds') }}
    {% endif %}
{%- endmacro %}

{% macro fixpoint_relation(name) -%}
    {{ return(api.Relation.create(database=this.database, schema=this.schema, identifier=this.identifier ~ '__fixpoint_' ~ name, type='table')) }}
{%- endmacro %}

{% macro fixpoint_table(name, query) -%}
    {% do run_query('create or replace table ' ~ fixpoint_relation(name) ~ ' as ' ~ query) %}
{%- endmacro %}

{% macro fixpoint_count(relation) -%}
    {{ return(run_query('select count(*) from ' ~ relation).rows[0][0] | int) }}
{%- endmacro %}
