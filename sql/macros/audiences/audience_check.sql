{#- Fails a run of dbt if an audience does not say whom it lists and what for, is not followed, reads what is for another
    purpose, or has a member who does not consent by the verdicts in consent_profile, or an account of which too few do.
    `sluis models` has all of it built in. -#}
{% macro audience_check(verdicts) %}
    {%- if execute -%}{%- for key in graph.nodes -%}
        {%- set node = graph.nodes[key] -%}
        {%- set meta = node.config.meta or {} -%}
        {%- set audience = meta.get('audience', {}) -%}
        {%- if node.resource_type == 'model' and (audience or 'audiences' in node.fqn) -%}
            {%- if audience.get('entity') not in ['profile', 'account'] or audience.get('purpose') not in var('purposes') or not audience.get('min_size') -%}
                {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' needs meta.audience with entity: profile or account, a purpose of var purposes, and min_size') }}
            {%- endif -%}
            {%- if node.name not in var('audiences') -%}
                {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' is not listed in var audiences, so that nobody would remember who enters and leaves it') }}
            {%- endif -%}
            {%- for on in node.depends_on.nodes -%}
                {%- if on in graph.nodes and graph.nodes[on].resource_type == 'model' and graph.nodes[on].name not in ['consent_profile', 'profile_events'] -%}
                    {%- set read = graph.nodes[on].config.meta or {} -%}
                    {%- if read.get('purpose', read.get('audience', {}).get('purpose')) != audience.purpose -%}
                        {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' reads ' ~ graph.nodes[on].name ~ ', which is for another purpose, or does not say in meta.purpose what for') }}
                    {%- endif -%}
                {%- endif -%}
            {%- endfor -%}
            {%- set relation = adapter.get_relation(node.database, node.schema, node.name) -%}
            {%- if relation is not none -%}
                {%- set purpose = "'" ~ audience.purpose ~ "'" -%}
                {%- if audience.entity == 'account' -%}
                    {%- set events = adapter.get_relation(node.database, node.schema, 'profile_events') -%}
                    {%- set found = run_query('select count(*) from ' ~ relation ~ ' as a left join (select e.group_id, count(distinct e.profile_id) as n from ' ~ events ~ ' as e join ' ~ verdicts ~ ' as c on c.profile_id = e.profile_id and c.allowed and c.purpose = ' ~ purpose ~ ' where ' ~ array_contains('e.purposes', purpose) ~ ' group by e.group_id) as m on m.group_id = a.account_id where coalesce(m.n, 0) < ' ~ audience.get('min_members_consenting', 1)) -%}
                {%- else -%}
                    {%- set found = run_query('select count(*) from ' ~ relation ~ ' as a left join ' ~ verdicts ~ ' as c on c.profile_id = a.profile_id and c.allowed and c.purpose = ' ~ purpose ~ ' where c.profile_id is null') -%}
                {%- endif -%}
                {%- if found.rows[0][0] > 0 -%}
                    {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' has members who do not consent to ' ~ audience.purpose) }}
                {%- endif -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}{%- endif -%}
{% endmacro %}
