// Package runner builds a dbt project without dbt: it reads the models, finds
// their order, renders their Jinja, builds them in a warehouse and tests them.
//
// It runs the part of dbt that Sluis needs and refuses the rest by file and
// line, so that a project means the same here and under dbt. What it adds:
// a model under models/audiences must say for which purpose it is, and its
// members are checked against the people's consent each time it is built.
package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Options says which project to load and how to run it.
type Options struct {
	// Dir is the project, with dbt_project.yml at its root.
	Dir fs.FS

	// Vars override the vars of dbt_project.yml.
	Vars map[string]any

	// Env is what env_var sees, of names that begin with DBT_ or SLUIS_.
	Env map[string]string

	// FullRefresh rebuilds incremental models from nothing.
	FullRefresh bool

	// Budget bounds what Run may process.
	Budget Budget

	// Threads is how many nodes are built at once; zero means one.
	Threads int

	// Exclude is a selector for what no selector picks.
	Exclude string

	// Indirect says which tests a selector picks that it does not name.
	Indirect Indirect

	// State, if set, is what selectors of the methods state and result compare with.
	State *State

	// FailFast begins nothing more once a node has failed.
	FailFast bool

	// Target, if set, is a folder that Run and Test write compiled SQL to, since
	// warehouses report errors by its lines.
	Target string

	// Logger, if set, is told what templates log.
	Logger *slog.Logger

	// Begin, if set, is called before each of so many nodes, by several goroutines
	// at once.
	Begin func(node Node, of int)

	// Progress, if set, is called after each node, by one goroutine at a time.
	Progress func(NodeResult)
}

// Project is a project that was read and found to be sound. Its methods may
// be called concurrently.
type Project struct {
	options Options
	name    string
	vars    map[string]any
	// varNodes are those of dbt_project.yml as they stand there: templates see
	// the order of their keys.
	varNodes map[string]*yaml.Node
	// started and invocation are run_started_at and invocation_id of templates.
	started    time.Time
	invocation string
	engine     engine
	nodes      map[string]*Node
	order      []string // names, each after those it depends on
	sources    map[string]source
	types      *types           // of contracts
	macros     map[string]macro // of the project, by name
	// macroFiles are the files that those are in.
	macroFiles map[string]string
	forgets    bool      // a full refresh spares no state
	only       selection // if not nil, nothing else is picked
}

// source is a table that others fill.
type source struct {
	schema, table   string
	path            string // the file that declares it
	of, description string // of the source that the table is of, and of the table
	columns         []Column
	freshness       freshness
}

// Load reads a project. Its error is Problems, as many as could be found.
func Load(options Options) (*Project, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	l := &loader{
		Project: &Project{
			options: options, engine: newEngine(), started: time.Now(), invocation: newInvocation(), nodes: map[string]*Node{}, sources: map[string]source{}, macros: map[string]macro{}, macroFiles: map[string]string{}, types: &types{},
		},
		properties: map[string]properties{}, rendered: map[inline]string{},
	}
	l.loadSettings()
	l.loadFiles()
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	l.resolve()
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.Project, nil
}

// loader is a project being read.
type loader struct {
	*Project
	settings   settings
	properties map[string]properties // by kind and name, such as "model profiles"
	unitTests  []*Node
	rendered   map[inline]string
	problems   Problems
}

// inline is a template in a file of YAML.
type inline struct{ path, text, dialect string }

// properties are what YAML says about a node.
type properties struct {
	path        string
	line        int
	description string
	config      config
	configLines map[string]int // by key
	columns     []Column
	tests       []*testSpec
	used        bool
}

func (l *loader) problem(path string, line int, format string, args ...any) {
	l.problems = append(l.problems, Problem{Path: path, Line: line, Message: fmt.Sprintf(format, args...)})
}

// loadFiles reads everything but how things depend on each other. Macros come
// first, since templates call them.
func (l *loader) loadFiles() {
	l.eachFile(l.settings.macroPaths, l.loadMacros)
	l.eachFile(l.testFolders("generic"), func(file string) {
		if !isYAML(file) { // those are read with the others of the folders of tests
			l.loadMacros(file)
		}
	})
	l.eachFile(slices.Concat(l.settings.modelPaths, l.settings.seedPaths, l.settings.testPaths), func(file string) {
		if isYAML(file) {
			l.loadProperties(file)
		}
	})
	l.eachFile(l.settings.modelPaths, func(file string) { l.loadTemplate(file, Model) })
	l.eachFile(l.settings.seedPaths, l.loadSeed)
	l.eachFile(l.settings.testPaths, func(file string) {
		if !slices.ContainsFunc(l.testFolders("generic", "fixtures"), func(folder string) bool { return strings.HasPrefix(file, folder+"/") }) {
			l.loadTemplate(file, Test)
		}
	})
}

// testFolders are those below the folders of tests that dbt has another use for:
// generic, whose files are macros, and fixtures, which are rows for unit tests.
func (l *loader) testFolders(names ...string) []string {
	var folders []string
	for _, tests := range l.settings.testPaths {
		for _, name := range names {
			folders = append(folders, path.Join(tests, name))
		}
	}
	return folders
}

// loadMacros reads a file of macros, or of YAML beside them.
func (l *loader) loadMacros(file string) {
	switch {
	case isYAML(file):
		l.loadProperties(file)
	case path.Ext(file) == ".sql":
		if source, ok := l.read(file); ok {
			l.macroFiles[file] = source
			l.problems = append(l.problems, l.engine.define(file, l.macroFiles[file])...)
			maps.Copy(l.macros, macrosIn(file, source))
		}
	}
}

func isYAML(file string) bool {
	return path.Ext(file) == ".yml" || path.Ext(file) == ".yaml"
}

func (l *loader) eachFile(folders []string, visit func(file string)) {
	for _, folder := range folders {
		err := fs.WalkDir(l.options.Dir, folder, func(file string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !entry.IsDir() {
				visit(file)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.problem(folder, 0, "%v", err)
		}
	}
}

func (l *loader) read(file string) (string, bool) {
	content, err := fs.ReadFile(l.options.Dir, file)
	if err != nil {
		l.problem(file, 0, "%v", err)
		return "", false
	}
	return string(content), true
}

func (l *loader) loadTemplate(file string, kind Kind) {
	if path.Ext(file) != ".sql" {
		return
	}
	source, ok := l.read(file)
	if !ok {
		return
	}
	node := l.newNode(file, kind)
	node.source = source
	var problems []Problem
	node.template, problems = l.engine.parse(file, source)
	l.problems = append(l.problems, problems...)
	if kind == Test {
		node.test = &testSpec{name: node.Name}
	}
	l.add(node)
}

func (l *loader) loadSeed(file string) {
	if path.Ext(file) != ".csv" {
		return
	}
	source, ok := l.read(file)
	if !ok {
		return
	}
	node := l.newNode(file, Seed)
	node.source, node.Materialized = source, SeedTable
	l.add(node)
}

// newNode makes a node with all of its config but what its file says.
func (l *loader) newNode(file string, kind Kind) *Node {
	name := strings.TrimSuffix(path.Base(file), path.Ext(file))
	node := &Node{Name: name, Kind: kind, Path: file, config: l.settings.folderConfig(kind, file)}
	for _, models := range l.settings.modelPaths {
		node.inAudiences = node.inAudiences || kind == Model && strings.HasPrefix(file, path.Join(models, "audiences")+"/")
	}
	if p, ok := l.properties[string(kind)+" "+name]; ok {
		p.used = true
		l.properties[string(kind)+" "+name] = p
		node.Description, node.Columns, node.describedIn = p.description, p.columns, p.path
		node.config = node.config.merge(p.config)
	}
	return node
}

func (l *loader) add(node *Node) {
	if other, ok := l.nodes[node.Name]; ok {
		l.problem(node.Path, 0, "the name %q is taken by %s: rename the file", node.Name, other.Path)
		return
	}
	l.nodes[node.Name] = node
}

// resolve renders every template once, to learn its config and what it
// refers to, as dbt does when it parses.
func (l *loader) resolve() {
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		node := l.nodes[name]
		if node.template != nil {
			l.inspect(node)
		}
		for _, wrong := range node.settle() {
			path, line := l.lineOfConfig(node, wrong.key)
			l.problem(path, line, "%s", wrong.message)
		}
		if node.isAudience() && node.config.enabled() {
			for _, wrong := range node.readAudience(asTexts(l.vars["purposes"])) {
				l.problem(node.Path, 0, "%s", wrong)
			}
			// Its members are checked against these models, whether or not its query
			// reads them.
			node.DependsOn = append(node.DependsOn, consentModel)
			if node.Audience != nil && node.Audience.Entity == EntityAccount {
				node.DependsOn = append(node.DependsOn, eventsModel)
			}
		}
	}
	l.dropDisabled()
	l.checkProperties()
	l.checkLoadedAt()
	l.checkContracts()
	l.checkAudiences()
	if len(l.problems) > 0 {
		return
	}
	l.attachTests()
	l.attachUnitTests()
	l.checkReferences()
	if len(l.problems) == 0 {
		l.sort()
	}
}

// checkAudiences holds audiences to one purpose: what people agreed to for one
// tells nobody's audience for another. An audience may read events, which know
// what they may be used for, and models that say so in meta.purpose.
func (l *loader) checkAudiences() {
	l.checkAudienceList()
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		node := l.nodes[name]
		if node.Audience == nil {
			continue
		}
		for _, on := range slices.Compact(slices.Sorted(slices.Values(node.DependsOn))) {
			if other := l.nodes[on]; other != nil {
				l.checkAudienceReads(node, other)
			}
		}
	}
}

func (l *loader) checkAudienceReads(node, other *Node) {
	line := lineWith(node.source, other.Name)
	purpose := node.Audience.Purpose
	switch declared, _ := other.Meta["purpose"].(string); {
	case other.Kind == Seed || other.Name == consentModel || other.Name == eventsModel:
	case other.Audience != nil && other.Audience.Purpose != purpose:
		l.problem(node.Path, line, "the audience %s is for %s and reads %s, which is for %s: an audience is made of those for the same purpose",
			node.Name, purpose, other.Name, other.Audience.Purpose)
	case other.Audience != nil:
	case declared == "":
		l.problem(node.Path, line, "the audience %s is for %s and reads %s, which does not say what for: if it tells only what may be used for %s, it says so as in config: {meta: {purpose: %s}}",
			node.Name, purpose, other.Name, purpose, purpose)
	case declared != purpose:
		l.problem(node.Path, line, "the audience %s is for %s and reads %s, which is for %s (meta.purpose): an audience is made of what is for the same purpose",
			node.Name, purpose, other.Name, declared)
	}
}

// listVar has the audiences whose members are followed. dbt has to know them
// when it reads the project, so that they are listed; that none is forgotten is
// checked here.
const listVar = "audiences"

func (l *loader) checkAudienceList() {
	listed, ok := l.vars[listVar]
	if !ok {
		return // nothing follows them
	}
	names := asTexts(listed)
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		if l.nodes[name].Audience != nil && !slices.Contains(names, name) {
			l.problem(settingsFile, l.settings.varLines[listVar], "the audience %s (%s) is not listed, so that nobody would remember who enters and leaves it: add it to vars.%s", name, l.nodes[name].Path, listVar)
		}
	}
	for _, name := range names {
		if node := l.nodes[name]; node == nil || node.Audience == nil {
			l.problem(settingsFile, l.settings.varLines[listVar], "vars.%s lists %s, and there is no such audience: remove it there, or add a file for it to models/audiences", listVar, name)
		}
	}
}

func (l *loader) inspect(node *Node) {
	seen := &references{}
	scope := scope{occasion: occasion{dialect: "duckdb"}, project: l.Project, node: node, seen: seen}
	if _, err := node.template.render(scope.globals()); err != nil {
		l.problems = append(l.problems, asProblem(node.Path, err))
		return
	}
	for key, value := range seen.config {
		if wrong := checkConfig(key, value); wrong != "" {
			l.problem(node.Path, lineWith(node.source, key), "%s", wrong)
		}
	}
	node.config = node.config.merge(seen.config)
	node.DependsOn, node.sources = seen.nodes, seen.sources
	for _, s := range seen.sources {
		if _, ok := l.sources[s]; !ok {
			l.problem(node.Path, lineWith(node.source, s[strings.Index(s, ".")+1:]), "there is no source %s: declare it under sources in a file of models", s)
		}
	}
}

// lineOfConfig tells where a key of a node's config is: in its own file, in
// YAML about it, or, without a line, in what dbt_project.yml says of its folder.
func (l *loader) lineOfConfig(node *Node, key string) (path string, line int) {
	if key == "" {
		return node.Path, 0
	}
	if line := lineWith(node.source, key); line > 0 {
		return node.Path, line
	}
	p := l.properties[string(node.Kind)+" "+node.Name]
	if line, ok := p.configLines[key]; ok {
		return p.path, line
	}
	return node.Path, 0
}

func asProblem(path string, err error) Problem {
	if problem, ok := errors.AsType[Problem](err); ok {
		return problem
	}
	return Problem{Path: path, Message: err.Error()}
}

// lineWith finds a line to point at; zero if no line has the text.
func lineWith(source, text string) int {
	before, _, found := strings.Cut(source, text)
	if !found {
		return 0
	}
	return 1 + strings.Count(before, "\n")
}

func (l *loader) dropDisabled() {
	for name, node := range l.nodes {
		if !node.config.enabled() {
			delete(l.nodes, name)
		}
	}
}

// checkProperties finds YAML about nodes that do not exist.
func (l *loader) checkProperties() {
	for key, p := range l.properties {
		if !p.used {
			l.problem(p.path, p.line, "there is no file for the %s: add it, or remove this", key)
		}
	}
}

func (l *loader) checkReferences() {
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		node := l.nodes[name]
		slices.Sort(node.DependsOn)
		node.DependsOn = slices.Compact(node.DependsOn)
		for _, on := range node.DependsOn {
			if target, ok := l.nodes[on]; !ok || target.Kind == Test {
				l.problem(node.Path, lineWith(node.source, "'"+on+"'"), "there is no model or seed %q to refer to", on)
			}
		}
	}
}

// sort puts the nodes in an order in which they can be built.
func (l *loader) sort() {
	const doing, done = 1, 2
	state := map[string]int{}
	var trail []string
	var visit func(name string) bool
	visit = func(name string) bool {
		switch state[name] {
		case done:
			return true
		case doing:
			circle := append(trail[slices.Index(trail, name):], name)
			l.problem(l.nodes[name].Path, 0, "models refer to each other in a circle: %s", strings.Join(circle, " → "))
			return false
		}
		state[name] = doing
		trail = append(trail, name)
		for _, on := range l.nodes[name].DependsOn {
			if !visit(on) {
				return false
			}
		}
		trail = trail[:len(trail)-1]
		state[name] = done
		l.order = append(l.order, name)
		return true
	}
	for _, name := range slices.Sorted(maps.Keys(l.nodes)) {
		if !visit(name) {
			return
		}
	}
}

// relation names a node's table or view. Names need no quotes, see identifier.
func relation(name string) string { return warehouse.SchemaModels + "." + name }
