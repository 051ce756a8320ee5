package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
)

// State is an earlier state of a project, as its artifacts have it.
type State struct {
	manifest *artifact.Manifest
	results  *artifact.RunResults
	sources  *artifact.SourceResults
}

// ReadState reads the artifacts in a folder: a manifest, the results of a run,
// how fresh sources were, or several of them.
func ReadState(dir string) (*State, error) {
	s := &State{}
	manifest, err := artifact.Read[artifact.Manifest](dir, artifact.ManifestFile)
	if err == nil {
		s.manifest = &manifest
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	results, err := artifact.Read[artifact.RunResults](dir, artifact.RunResultsFile)
	if err == nil {
		s.results = &results
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sources, err := artifact.Read[artifact.SourceResults](dir, artifact.SourcesFile)
	if err == nil {
		s.sources = &sources
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.manifest == nil && s.results == nil && s.sources == nil {
		return nil, fmt.Errorf("%s: there is none of %s, %s and %s, which a run, a build, compile or source freshness writes", dir, artifact.ManifestFile, artifact.RunResultsFile, artifact.SourcesFile)
	}
	return s, nil
}

// matchResult matches what became of nodes in an earlier run: result:error.
func matchResult(q query, c criterion) (func(candidate) bool, error) {
	statuses := []string{"success", "pass", "warn", "fail", "error", "skipped"}
	switch {
	case q.options.State == nil || q.options.State.results == nil:
		return nil, errors.New("it needs the results of a run to look at: name their folder with --state")
	case !slices.Contains(statuses, c.value):
		return nil, fmt.Errorf("a result is one of %s", strings.Join(statuses, ", "))
	}
	with := map[string]bool{}
	for _, r := range q.options.State.results.Results {
		with[r.UniqueID] = with[r.UniqueID] || r.Status == c.value
	}
	return func(of candidate) bool { return of.node != nil && with[q.uniqueID(of.node)] }, nil
}

// changes are the ways in which a node can have been modified, as dbt has them.
var changes = map[string]func(old, now artifact.Node) bool{
	"body":                   func(old, now artifact.Node) bool { return old.Checksum != now.Checksum },
	"configs":                func(old, now artifact.Node) bool { return !sameJSON(old.Config, now.Config) },
	"relation":               func(old, now artifact.Node) bool { return !reflect.DeepEqual(old.RelationName, now.RelationName) },
	"contract":               func(old, now artifact.Node) bool { return contractOf(old) != contractOf(now) },
	"persisted_descriptions": func(old, now artifact.Node) bool { return old.Config["persist_docs"] != nil && !sameTexts(old, now) },
}

// matchState matches nodes by what changed since the earlier state.
func matchState(q query, c criterion) (func(candidate) bool, error) {
	if q.options.State == nil || q.options.State.manifest == nil {
		return nil, errors.New("it needs an earlier manifest.json to compare with: name its folder with --state")
	}
	old := q.options.State.manifest
	kind, way, _ := strings.Cut(c.value, ".")
	is := map[string]func(candidate) bool{
		"new":        func(of candidate) bool { return !q.wasThere(old, of) },
		"old":        func(of candidate) bool { return q.wasThere(old, of) },
		"modified":   func(of candidate) bool { return q.changed(old, of, way) },
		"unmodified": func(of candidate) bool { return !q.changed(old, of, "") },
	}[kind]
	if _, known := changes[way]; is == nil || way != "" && (kind != "modified" || !known && way != "macros") {
		return nil, fmt.Errorf("a state is new, old, modified, unmodified or one of modified.%s, modified.macros", strings.Join(slices.Sorted(maps.Keys(changes)), ", modified."))
	}
	return is, nil
}

func (q query) wasThere(old *artifact.Manifest, of candidate) bool {
	if of.node == nil {
		_, ok := old.Sources[q.sourceID(of.name)]
		return ok
	}
	id := q.uniqueID(of.node)
	if of.node.isUnitTest() {
		_, ok := old.UnitTests[id]
		return ok
	}
	_, ok := old.Nodes[id]
	return ok
}

// changed tells whether a node is new or was changed, in one way or in any.
func (q query) changed(old *artifact.Manifest, of candidate, way string) bool {
	if !q.wasThere(old, of) {
		return way == "" || way == "body"
	}
	if of.node == nil {
		before, now := old.Sources[q.sourceID(of.name)], q.describeSource(of.name, old.Metadata.AdapterType)
		return way == "" && (before.RelationName != now.RelationName || !sameJSON(before.Freshness, now.Freshness) || !sameJSON(before.LoadedAtField, now.LoadedAtField))
	}
	if of.node.isUnitTest() {
		return (way == "" || way == "body") && old.UnitTests[q.uniqueID(of.node)].Checksum != q.describeUnitTest(of.node).Checksum
	}
	if (way == "" || way == "macros") && q.macrosChanged(old, of.node) {
		return true
	}
	before, now := old.Nodes[q.uniqueID(of.node)], q.describe(of.node, old.Metadata.AdapterType)
	for name, differ := range changes {
		if (way == "" || way == name) && differ(before, now) {
			return true
		}
	}
	return false
}

// macrosChanged tells whether a macro that a node may call was changed, at any
// depth.
func (q query) macrosChanged(old *artifact.Manifest, n *Node) bool {
	seen := map[string]bool{}
	var look func(names []string) bool
	look = func(names []string) bool {
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			if old.Macros[q.macroID(name)].SQL != q.macros[name].sql || look(q.macrosOf(q.macros[name].calls, name)) {
				return true
			}
		}
		return false
	}
	return look(q.macrosOf(callsIn(n.source), ""))
}

func sameJSON(a, b any) bool {
	left, err := json.Marshal(a)
	if err != nil {
		return false
	}
	right, err := json.Marshal(b)
	return err == nil && string(left) == string(right)
}

func contractOf(n artifact.Node) string {
	text, err := json.Marshal(n.Config["contract"])
	if err != nil || n.Config["contract"] == nil {
		return ""
	}
	types, err := json.Marshal(n.Columns)
	if err != nil {
		return ""
	}
	return string(text) + string(types)
}

func sameTexts(a, b artifact.Node) bool {
	return a.Description == b.Description && sameJSON(a.Columns, b.Columns)
}
