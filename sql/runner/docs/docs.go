// Package docs makes one page of a project's artifacts: models by folder with
// their columns, tests and SQL, a search, and a picture of what is made of what.
// The page is a single file that loads nothing, so that it can be mailed, put
// on any server, or opened from a disk.
package docs

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
)

//go:embed page
var page embed.FS

// Project is what the page is about.
type Project struct {
	Manifest artifact.Manifest
	Catalog  *artifact.Catalog       // nil if the warehouse was not asked
	Results  *artifact.RunResults    // of the last run; nil if there was none
	Sources  *artifact.SourceResults // how fresh they were last; nil if they were not asked
}

// content is what the script of the page reads.
type content struct {
	Project   string     `json:"project"`
	Adapter   string     `json:"adapter"`
	Generated time.Time  `json:"generated"`
	LastRun   *time.Time `json:"lastRun,omitempty"`
	Nodes     []node     `json:"nodes"`
}

// node is a model, a seed or a source.
type node struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Kind         string         `json:"kind"`
	Folder       string         `json:"folder"`
	Path         string         `json:"path"`
	Description  string         `json:"description,omitempty"`
	Materialized string         `json:"materialized,omitempty"`
	Relation     string         `json:"relation,omitempty"`
	Tags         []string       `json:"tags,omitempty"`
	Meta         map[string]any `json:"meta,omitempty"`
	Columns      []column       `json:"columns,omitempty"`
	Tests        []test         `json:"tests,omitempty"` // of no single column
	Parents      []string       `json:"parents,omitempty"`
	Source       string         `json:"source,omitempty"`
	Compiled     string         `json:"compiled,omitempty"`
	Rows         *int64         `json:"rows,omitempty"`
	Built        string         `json:"built,omitempty"` // what the warehouse has of it: table or view
	Status       string         `json:"status,omitempty"`
}

type column struct {
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"`
	Description string `json:"description,omitempty"`
	Tests       []test `json:"tests,omitempty"`
}

type test struct {
	Name     string `json:"name"`             // that of the node
	Title    string `json:"title"`            // how it is told
	Detail   string `json:"detail,omitempty"` // its arguments
	Severity string `json:"severity"`
	Status   string `json:"status,omitempty"`
}

// Page writes the page.
func Page(p Project) ([]byte, error) {
	data, err := json.Marshal(p.content()) // which escapes what could end the script
	if err != nil {
		return nil, fmt.Errorf("the page of docs: %w", err)
	}
	html, err := page.ReadFile("page/page.html")
	if err != nil {
		return nil, fmt.Errorf("the page of docs: %w", err)
	}
	for mark, file := range map[string]string{"/* style */": "page/page.css", "/* script */": "page/page.js", "/* layout */": "page/layout.js"} {
		text, err := page.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the page of docs: %w", err)
		}
		html = bytes.Replace(html, []byte(mark), text, 1)
	}
	return bytes.Replace(html, []byte("/* data */"), data, 1), nil
}

func (p Project) content() content {
	c := content{Project: p.Manifest.Metadata.Project, Adapter: p.Manifest.Metadata.AdapterType, Generated: p.Manifest.Metadata.GeneratedAt}
	statuses := map[string]string{}
	if p.Results != nil {
		c.LastRun = &p.Results.Metadata.GeneratedAt
		for _, r := range p.Results.Results {
			statuses[r.UniqueID] = r.Status
		}
	}
	tests := p.testsByNode(statuses)
	for id, n := range p.Manifest.Nodes {
		if n.ResourceType == "test" {
			continue
		}
		described := node{
			ID: id, Name: n.Name, Kind: n.ResourceType, Folder: path.Dir(n.OriginalFilePath), Path: n.OriginalFilePath,
			Description: n.Description, Tags: n.Tags, Meta: n.Meta, Parents: n.DependsOn.Nodes, Source: n.RawCode, Status: statuses[id],
		}
		described.Materialized, _ = n.Config["materialized"].(string)
		if n.RelationName != nil {
			described.Relation = *n.RelationName
		}
		if n.CompiledCode != nil {
			described.Compiled = *n.CompiledCode
		}
		p.fill(&described, n.Columns, n.ColumnOrder, tests[id])
		c.Nodes = append(c.Nodes, described)
	}
	for id, s := range p.Manifest.Sources {
		described := node{
			ID: id, Name: s.SourceName + "." + s.Name, Kind: "source", Folder: "sources/" + s.SourceName, Path: s.OriginalFilePath,
			Description: s.Description, Relation: s.RelationName,
		}
		p.fill(&described, s.Columns, s.ColumnOrder, append(tests[id], p.freshnessOf(id)...))
		c.Nodes = append(c.Nodes, described)
	}
	slices.SortFunc(c.Nodes, func(a, b node) int { return strings.Compare(a.Folder+" "+a.Name, b.Folder+" "+b.Name) })
	return c
}

// freshnessOf tells what a source promises of its freshness, as a test of it.
func (p Project) freshnessOf(id string) []placed {
	s := p.Manifest.Sources[id]
	if s.Freshness == nil {
		return nil
	}
	var said []string
	if age := s.Freshness.WarnAfter.String(); age != "" {
		said = append(said, "warns after "+age)
	}
	if age := s.Freshness.ErrorAfter.String(); age != "" {
		said = append(said, "fails after "+age)
	}
	if s.LoadedAtField != nil {
		said = append(said, "by "+*s.LoadedAtField)
	}
	t := placed{test: test{Name: "freshness", Title: "freshness", Detail: strings.Join(said, ", "), Severity: "error"}}
	if p.Sources != nil {
		for _, r := range p.Sources.Results {
			if r.UniqueID == id {
				t.Status = strings.TrimPrefix(r.Status, "runtime ")
			}
		}
	}
	return []placed{t}
}

// fill adds columns and tests, with the warehouse's types in its order, and
// those columns that nobody has described.
func (p Project) fill(n *node, declared map[string]artifact.Column, order []string, tests []placed) {
	var built artifact.Table
	if p.Catalog != nil {
		if found, ok := p.Catalog.Nodes[n.ID]; ok {
			built = found
		} else {
			built = p.Catalog.Sources[n.ID]
		}
	}
	n.Built = built.Metadata.Type
	if rows, ok := built.Stats[artifact.RowCount].Value.(int64); ok {
		n.Rows = &rows
	}
	names := map[string]int{}
	for name, c := range built.Columns {
		names[name] = c.Index
	}
	for name := range declared {
		if _, ok := names[name]; !ok {
			names[name] = 1<<20 + slices.Index(order, name) // behind those that are there
		}
	}
	for name := range names {
		c := column{Name: name, Description: declared[name].Description, Type: built.Columns[name].Type}
		if declaredType := declared[name].DataType; c.Type == "" && declaredType != nil {
			c.Type = *declaredType
		}
		for _, t := range tests {
			if t.column == name {
				c.Tests = append(c.Tests, t.test)
			}
		}
		n.Columns = append(n.Columns, c)
	}
	slices.SortFunc(n.Columns, func(a, b column) int {
		if d := names[a.Name] - names[b.Name]; d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, t := range tests {
		if _, ok := names[t.column]; !ok {
			n.Tests = append(n.Tests, t.test)
		}
	}
}

// placed is a test with the column that it is about, if it is about one.
type placed struct {
	test
	column string
}

// testsByNode finds the tests of each node: the generic ones where they are
// declared, others with all that they read.
func (p Project) testsByNode(statuses map[string]string) map[string][]placed {
	tests := map[string][]placed{}
	for id, n := range p.Manifest.Nodes {
		if n.ResourceType != "test" {
			continue
		}
		t := placed{test: test{Name: n.Name, Title: n.Name, Severity: "error", Status: statuses[id]}}
		if severity, _ := n.Config["severity"].(string); severity != "" {
			t.Severity = strings.ToLower(severity)
		}
		if n.TestMetadata == nil {
			t.Detail = firstComment(n.RawCode)
			for _, on := range n.DependsOn.Nodes {
				tests[on] = append(tests[on], t)
			}
			continue
		}
		t.Title, t.Detail = n.TestMetadata.Name, arguments(n.TestMetadata.Kwargs)
		if n.ColumnName != nil {
			t.column = *n.ColumnName
		}
		about := n.DependsOn.Nodes[:min(1, len(n.DependsOn.Nodes))]
		if n.AttachedNode != nil {
			about = []string{*n.AttachedNode}
		}
		for _, on := range about {
			tests[on] = append(tests[on], t)
		}
	}
	for _, of := range tests {
		slices.SortFunc(of, func(a, b placed) int { return strings.Compare(a.Title+a.Name, b.Title+b.Name) })
	}
	return tests
}

// arguments tells a generic test's arguments, but for what it is about.
func arguments(kwargs map[string]any) string {
	var parts []string
	for key, value := range kwargs {
		if key == "model" || key == "column_name" {
			continue
		}
		if list, ok := value.([]any); ok {
			texts := make([]string, len(list))
			for i, element := range list {
				texts[i] = fmt.Sprint(element)
			}
			value = strings.Join(texts, ", ")
		}
		parts = append(parts, fmt.Sprintf("%s: %v", key, value))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// firstComment is what a test says of itself: the lines of comment at its top.
func firstComment(source string) string {
	var lines []string
	for line := range strings.Lines(source) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSpace(text))
	}
	return strings.Join(lines, " ")
}
