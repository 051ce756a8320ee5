package runner

import (
	"crypto/md5" // dbt names projects by it; it protects nothing
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Invocation is one use of a project, as its artifacts tell it.
type Invocation struct {
	ID      string
	Started time.Time
	Dialect string
}

// Manifest describes the project as dbt's manifest.json does. Queries are
// compiled for the invocation's dialect as for a first run; one that only a run
// can render is left out.
func (p *Project) Manifest(of Invocation, now time.Time) artifact.Manifest {
	project := md5.Sum([]byte(p.name))
	m := artifact.Manifest{
		Metadata: artifact.ManifestMetadata{
			Metadata: artifact.NewMetadata("manifest/v12", of.ID, of.Started, now),
			Project:  p.name, ProjectID: hex.EncodeToString(project[:]), AdapterType: of.Dialect,
		},
		Nodes: map[string]artifact.Node{}, Sources: map[string]artifact.Source{}, Macros: map[string]artifact.Macro{},
		ParentMap: map[string][]string{}, ChildMap: map[string][]string{}, UnitTests: map[string]artifact.UnitTest{},
	}
	for _, node := range p.nodes {
		if node.isUnitTest() {
			described := p.describeUnitTest(node)
			m.UnitTests[described.UniqueID] = described
			link(&m, described.UniqueID, described.DependsOn.Nodes)
			continue
		}
		described := p.describe(node, of.Dialect)
		m.Nodes[described.UniqueID] = described
		link(&m, described.UniqueID, described.DependsOn.Nodes)
	}
	for name := range p.sources {
		id := p.sourceID(name)
		m.Sources[id] = p.describeSource(name, of.Dialect)
		link(&m, id, nil)
	}
	for name, macro := range p.macros {
		id := p.macroID(name)
		m.Macros[id] = artifact.Macro{
			Name: name, ResourceType: "macro", PackageName: p.name, Path: macro.path, OriginalFilePath: macro.path, UniqueID: id,
			SQL: macro.sql, DependsOn: artifact.DependsOn{Macros: p.macroIDs(p.macrosOf(macro.calls, name))},
		}
	}
	for _, ids := range m.ChildMap {
		slices.Sort(ids)
	}
	return m
}

// link notes who depends on whom.
func link(m *artifact.Manifest, id string, parents []string) {
	m.ParentMap[id] = append([]string{}, parents...)
	if m.ChildMap[id] == nil {
		m.ChildMap[id] = []string{}
	}
	for _, parent := range parents {
		m.ChildMap[parent] = append(m.ChildMap[parent], id)
	}
}

func (p *Project) macroID(name string) string { return "macro." + p.name + "." + name }

func (p *Project) macroIDs(names []string) []string {
	ids := []string{}
	for _, name := range names {
		ids = append(ids, p.macroID(name))
	}
	return ids
}

// describe says of a node what dbt's manifest does.
func (p *Project) describe(n *Node, dialect string) artifact.Node {
	// dbt's paths are within the folder of models, tests or seeds.
	_, below, _ := strings.Cut(n.Path, "/")
	d := artifact.Node{
		Schema: warehouse.SchemaModels, Name: n.Name, ResourceType: string(n.Kind), PackageName: p.name,
		Path: below, OriginalFilePath: n.Path, UniqueID: p.uniqueID(n), FQN: p.fqn(n), Alias: n.Name, Checksum: checksumOf(n),
		Config: n.fullConfig(), Tags: append([]string{}, n.Tags...), Description: n.Description, Columns: columnsOf(n.Columns, dialect), ColumnOrder: namesOfColumns(n.Columns),
		Meta: orEmpty(n.Meta), RawCode: n.source,
		DependsOn: artifact.DependsOn{Macros: p.macroIDs(p.macrosOf(callsIn(n.source), ""))},
	}
	if n.describedIn != "" && !n.isGenericTest() {
		d.PatchPath = new(p.name + "://" + n.describedIn)
	}
	if n.Kind != Test && n.Materialized != Ephemeral {
		d.RelationName = new(relation(n.Name))
	}
	if n.Kind == Seed {
		d.RawCode = ""
		return d
	}
	d.Language, d.Access = "sql", n.access()
	d.DependsOn.Nodes = p.parentIDs(n)
	for _, on := range n.DependsOn {
		d.Refs = append(d.Refs, artifact.Ref{Name: on})
	}
	for _, name := range n.sources {
		of, table, _ := strings.Cut(name, ".")
		d.Sources = append(d.Sources, []string{of, table})
	}
	if code, err := p.compile(n, occasion{dialect: dialect}); err == nil {
		d.Compiled, d.CompiledCode, d.CompiledPath = true, &code, new(path.Join("compiled", p.compiledFile(n)))
	}
	if n.isGenericTest() {
		p.describeTest(n, &d)
	}
	return d
}

// describeUnitTest says of a unit test what dbt's manifest does.
func (p *Project) describeUnitTest(n *Node) artifact.UnitTest {
	_, below, _ := strings.Cut(n.Path, "/")
	unit := n.test.unit
	d := artifact.UnitTest{
		Name: n.Name, Model: unit.model, Description: n.Description, ResourceType: "unit_test", PackageName: p.name,
		Path: below, OriginalFilePath: n.Path, UniqueID: p.uniqueID(n), FQN: p.fqn(n),
		DependsOn: artifact.DependsOn{Nodes: []string{p.uniqueID(p.nodes[unit.model])}}, Given: []artifact.UnitRows{}, Expect: unit.expect.described(""),
	}
	for _, in := range unit.given {
		d.Given = append(d.Given, in.described(in.input))
	}
	said, _ := json.Marshal([]any{d.Model, d.Given, d.Expect, unit.overrides.macros, unit.overrides.vars, unit.overrides.env}) // plain values
	sum := sha256.Sum256(said)
	d.Checksum = hex.EncodeToString(sum[:])
	return d
}

func (u unitRows) described(input string) artifact.UnitRows {
	if u.sql != "" {
		return artifact.UnitRows{Input: input, Format: "sql", Rows: u.sql}
	}
	rows := make([]map[string]any, len(u.rows))
	for i, row := range u.rows {
		rows[i] = map[string]any{}
		for column, value := range row {
			rows[i][column] = value.plain()
		}
	}
	return artifact.UnitRows{Input: input, Format: "dict", Rows: rows}
}

// plain is the value as JSON has it: nothing, a text, a list or an object.
func (c cell) plain() any {
	switch {
	case c.isNull:
		return nil
	case c.fields != nil:
		object := map[string]any{}
		for _, f := range c.fields {
			object[f.name] = f.value.plain()
		}
		return object
	case c.list != nil:
		list := make([]any, len(c.list))
		for i, item := range c.list {
			list[i] = item.plain()
		}
		return list
	}
	return c.text
}

// describeTest adds what only generic tests have.
func (p *Project) describeTest(n *Node, d *artifact.Node) {
	t := n.test
	d.Path = n.Name + ".sql"
	d.TestMetadata = &artifact.TestCall{Name: t.generic, Kwargs: maps.Clone(t.arguments)}
	d.TestMetadata.Kwargs["model"] = modelArgument(t.model)
	d.RawCode = "{{ test_" + t.generic + "(**_dbt_generic_test_kwargs) }}"
	if t.column != "" {
		d.ColumnName = &t.column
	}
	if about, ok := p.nodes[t.model]; ok {
		d.AttachedNode = new(p.uniqueID(about))
		d.FileKeyName = string(about.Kind) + "s." + t.model
	}
	d.Refs = nil
	for _, on := range n.DependsOn {
		d.Refs = append(d.Refs, artifact.Ref{Name: on})
	}
}

func (n *Node) isGenericTest() bool { return n.Kind == Test && n.test.generic != "" }

// parentIDs lists what a node reads, by unique ids.
func (p *Project) parentIDs(n *Node) []string {
	ids := []string{}
	for _, on := range n.DependsOn {
		ids = append(ids, p.uniqueID(p.nodes[on]))
	}
	for _, name := range n.sources {
		ids = append(ids, p.sourceID(name))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (p *Project) describeSource(name, dialect string) artifact.Source {
	s := p.sources[name]
	of, table, _ := strings.Cut(name, ".")
	return artifact.Source{
		Schema: s.schema, Name: table, ResourceType: "source", PackageName: p.name, Path: s.path, OriginalFilePath: s.path,
		UniqueID: p.sourceID(name), FQN: p.sourceFQN(name), SourceName: of, SourceDescription: s.of, Identifier: s.table,
		Description: s.description, Columns: columnsOf(s.columns, dialect), ColumnOrder: namesOfColumns(s.columns),
		RelationName: s.schema + "." + s.table,
		Freshness:    s.freshness.described(dialect), LoadedAtField: s.freshness.fieldIn(dialect), LoadedAtQuery: s.freshness.queryText(),
		Config: s.fullConfig(dialect),
	}
}

func columnsOf(columns []Column, dialect string) map[string]artifact.Column {
	all := map[string]artifact.Column{}
	for _, c := range columns {
		described := artifact.Column{Name: c.Name, Description: c.Description, Meta: map[string]any{}, Tags: []string{}}
		if declared := c.TypeIn(dialect); declared != "" {
			described.DataType = &declared
		}
		all[c.Name] = described
	}
	return all
}

func namesOfColumns(columns []Column) []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	return names
}

// checksumOf is that of a node's file; a generic test has none.
func checksumOf(n *Node) artifact.Checksum {
	if n.isGenericTest() {
		return artifact.Checksum{Name: "none"}
	}
	text := strings.TrimSpace(n.source)
	if n.Kind != Seed {
		text = strings.Join(strings.Fields(text), " ") // as in dbt, laying it out anew changes nothing
	}
	sum := sha256.Sum256([]byte(text))
	return artifact.Checksum{Name: "sha256", Checksum: hex.EncodeToString(sum[:])}
}

// fullConfig is a node's config with dbt's defaults for what it does not say.
func (n *Node) fullConfig() config {
	full := config{"enabled": true, "tags": n.Tags, "meta": orEmpty(n.Meta)}
	if n.Kind == Test {
		full = full.merge(config{"materialized": "test", "severity": "error", "fail_calc": "count(*)", "warn_if": "!= 0", "error_if": "!= 0"})
	} else {
		full["materialized"] = string(n.Materialized)
	}
	if n.Kind == Model {
		full["access"] = n.access()
	}
	for key, value := range n.config {
		switch key {
		case "tags", "meta", "materialized", "partitions": // those are there, and days change from run to run
		default:
			full[key] = value
		}
	}
	if n.Tags == nil {
		full["tags"] = []string{}
	}
	if n.Kind == Test {
		full["severity"] = strings.ToUpper(full.text("severity"))
	}
	return full
}

// access tells who may refer to a model: here, anybody in the project.
func (n *Node) access() string {
	if n.Kind != Model {
		return ""
	}
	if access := n.config.text("access"); access != "" {
		return access
	}
	return "protected"
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// compiledFile is where a node's compiled SQL is kept, in the folder compiled.
func (p *Project) compiledFile(n *Node) string {
	if n.isGenericTest() || n.isUnitTest() {
		return path.Join(n.Path, n.Name+".sql")
	}
	return n.Path
}
