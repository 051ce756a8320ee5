{#- Fails a run of dbt if an audience does not say whom it lists and what for, is made of one for another purpose,
    or has a member who does not consent by the verdicts in consent_profile. `sluis models` has both built in. -#}
{% macro audience_check(verdicts) %}
    {%- if execute -%}{%- for key in graph.nodes -%}
        {%- set node = graph.nodes[key] -%}
        {%- set meta = node.config.meta or {} -%}
        {%- set audience = meta.get('audience', {}) -%}
        {%- if node.resource_type == 'model' and (audience or 'audiences' in node.fqn) -%}
            {%- if audience.get('entity') != 'profile' or audience.get('purpose') not in var('purposes') or not audience.get('min_size') -%}
                {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' needs meta.audience with entity: profile, a purpose of var purposes, and min_size') }}
            {%- endif -%}
            {%- for on in node.depends_on.nodes -%}
                {%- if on in graph.nodes -%}
                    {%- set read = graph.nodes[on].config.meta or {} -%}
                    {%- if read.get('audience', {}).get('purpose', audience.purpose) != audience.purpose -%}
                        {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' is made of ' ~ graph.nodes[on].name ~ ', which is for another purpose') }}
                    {%- endif -%}
                {%- endif -%}
            {%- endfor -%}
            {%- set relation = adapter.get_relation(node.database, node.schema, node.name) -%}
            {%- if relation is not none -%}
                {%- set found = run_query('select count(*) from ' ~ relation ~ ' as a left join ' ~ verdicts ~ ' as c on c.profile_id = a.profile_id and c.allowed and c.purpose = ' ~ "'" ~ audience.purpose ~ "'" ~ ' where c.profile_id is null') -%}
                {%- if found.rows[0][0] > 0 -%}
                    {{ exceptions.raise_compiler_error('the audience ' ~ node.name ~ ' has members who do not consent to ' ~ audience.purpose) }}
                {%- endif -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}{%- endif -%}
{% endmacro %}
