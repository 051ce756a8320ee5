package runner

import (
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// settings are what dbt_project.yml says.
type settings struct {
	modelPaths, macroPaths, seedPaths, testPaths []string
	folders                                      map[Kind][]folder
	varLines                                     map[string]int
}

// folder is a config for all nodes below a path.
type folder struct {
	path   string
	config config
}

// folderConfig merges the configs of the folders that hold a file, outermost
// first.
func (s settings) folderConfig(kind Kind, file string) config {
	merged := config{}
	for _, f := range s.folders[kind] {
		inside := strings.TrimSuffix(file, path.Ext(file))
		if _, rest, ok := strings.Cut(inside, "/"); ok {
			inside = rest
		}
		if f.path == "" || inside == f.path || strings.HasPrefix(inside, f.path+"/") {
			merged = merged.merge(f.config)
		}
	}
	return merged
}

const settingsFile = "dbt_project.yml"

// otherSettings are keys of dbt_project.yml that mean nothing to this runner
// and change nothing about what it builds.
var otherSettings = []string{
	"version", "config-version", "profile", "target-path", "clean-targets", "log-path", "packages-install-path",
	"require-dbt-version", "docs-paths", "asset-paths", "analysis-paths", "snapshot-paths", "flags", "query-comment",
	"quoting", "dispatch", "snapshots", "exposures", "unit_tests",
}

func (l *loader) loadSettings() {
	l.settings = settings{
		modelPaths: []string{"models"}, macroPaths: []string{"macros"}, seedPaths: []string{"seeds"}, testPaths: []string{"tests"},
		folders: map[Kind][]folder{}, varLines: map[string]int{},
	}
	l.vars, l.varNodes = map[string]any{}, map[string]*yaml.Node{}
	f, root := readYAML(l.options.Dir, settingsFile)
	defer func() { l.problems = append(l.problems, f.problems...) }()
	if root == nil {
		if len(f.problems) == 0 {
			f.problems = append(f.problems, Problem{Path: settingsFile, Message: "the file is empty: give the project a name"})
		}
		return
	}
	known := append([]string{"name", "model-paths", "macro-paths", "seed-paths", "test-paths", "vars", "models", "seeds", "data_tests", "tests", "on-run-start", "on-run-end"}, otherSettings...)
	entries := f.entries(root, settingsFile, known...)
	for _, e := range entries {
		if e.key == "name" {
			l.name = f.text(e.node, "name")
		}
	}
	if l.name == "" {
		f.report(root, "the project needs a name")
	}
	for _, e := range entries {
		l.loadSetting(f, e)
	}
	maps.Copy(l.vars, l.options.Vars)
	maps.DeleteFunc(l.varNodes, func(name string, _ *yaml.Node) bool { _, given := l.options.Vars[name]; return given })
}

func (l *loader) loadSetting(f *yamlFile, e entry) {
	switch e.key {
	case "model-paths":
		l.settings.modelPaths = f.texts(e.node, e.key)
	case "macro-paths":
		l.settings.macroPaths = f.texts(e.node, e.key)
	case "seed-paths":
		l.settings.seedPaths = f.texts(e.node, e.key)
	case "test-paths":
		l.settings.testPaths = f.texts(e.node, e.key)
	case "vars":
		for _, v := range f.entries(e.node, "vars") {
			if v.key == l.name && v.node.Kind == yaml.MappingNode {
				for _, own := range f.entries(v.node, "vars") {
					l.vars[own.key], l.settings.varLines[own.key] = f.value(own.node), own.line
				}
				continue
			}
			l.vars[v.key], l.settings.varLines[v.key] = f.value(v.node), v.line
		}
	case "on-run-start", "on-run-end":
		for _, hook := range f.texts(e.node, e.key) {
			if hook != consentHook {
				f.report(e.node, "hooks are not run: make models of them")
			}
		}
	case "models":
		l.loadFolders(f, Model, e.node)
	case "seeds":
		l.loadFolders(f, Seed, e.node)
	case "data_tests", "tests":
		l.loadFolders(f, Test, e.node)
	}
}

// loadFolders reads the configs by folder. Below the name of the project are
// folders, and keys with a plus, which are configs.
func (l *loader) loadFolders(f *yamlFile, kind Kind, node *yaml.Node) {
	var walk func(at string, node *yaml.Node)
	walk = func(at string, node *yaml.Node) {
		own := config{}
		var below []entry
		for _, e := range f.entries(node, "a folder's config") {
			key, isConfig := strings.CutPrefix(e.key, "+")
			if !isConfig {
				below = append(below, e)
				continue
			}
			if wrong := checkConfigKey(key); wrong != "" {
				f.report(&yaml.Node{Line: e.line}, "%s", wrong)
				continue
			}
			own[key] = f.value(e.node)
		}
		l.settings.folders[kind] = append(l.settings.folders[kind], folder{at, own})
		for _, e := range below {
			if e.node.Kind != yaml.MappingNode {
				f.report(&yaml.Node{Line: e.line}, "%q must be a folder with configs: a config begins with +", e.key)
				continue
			}
			walk(path.Join(at, e.key), e.node)
		}
	}
	for _, e := range f.entries(node, string(kind)+"s") {
		if key, ok := strings.CutPrefix(e.key, "+"); ok {
			l.settings.folders[kind] = slices.Insert(l.settings.folders[kind], 0, folder{"", config{key: f.value(e.node)}})
			continue
		}
		if e.key != l.name {
			f.report(&yaml.Node{Line: e.line}, "%q is not the project's name: configs go below %q", e.key, l.name)
			continue
		}
		walk("", e.node)
	}
}
