package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// occasion is what a template is rendered for.
type occasion struct {
	dialect     string
	incremental bool // the node adds to what is there
	// query runs a query that only reads; nil where there is no warehouse.
	query func(sql string) (answer, error)
	// config, if not nil, takes the partitions that the template configures: for
	// a run it knows more than when the project was read.
	config config
}

// scope is what a template sees: dbt's names, for one node.
type scope struct {
	occasion
	project *Project
	node    *Node
	// seen is set when a project is read: then references are collected and
	// nothing has to exist yet.
	seen *references
	// results are what statements of the template answered, by their names.
	results map[string]answer
	// given and overrides are for unit tests: what stands for what the node reads,
	// by its name, and what names mean.
	given     map[string]string
	overrides map[string]any
}

// references are what a template named when it was rendered.
type references struct {
	nodes   []string
	sources []string // as "source.table"
	config  config
}

func (s scope) globals() map[string]any {
	s.results = map[string]answer{}
	constant := func(value any) function {
		return func([]any, map[string]any) (any, error) { return value, nil }
	}
	all := s.context()
	maps.Copy(all, map[string]any{
		"ref":    function(s.ref),
		"source": function(s.source),
		"config": callable{call: s.configure, attributes: map[string]any{
			"get":          function(s.configGet),
			"require":      function(s.configRequire),
			"set":          function(s.configSet),
			"meta_get":     function(s.metaGet),
			"meta_require": function(s.metaRequire),
		}},
		"var":     callable{call: s.variable, attributes: map[string]any{"has_var": function(s.hasVariable)}},
		"env_var": function(s.environment),
		"this":    relationObject(warehouse.SchemaModels, s.node.Name),
		"target": object{
			attributes: map[string]any{
				"name": s.dialect, "target_name": s.dialect, "type": s.dialect, "schema": warehouse.SchemaModels, "dataset": warehouse.SchemaModels,
				"threads": max(s.project.options.Threads, 1), "database": unprintable, "project": unprintable,
			},
			text:    s.dialect,
			missing: refuse("target.%s is not supported: use target.type, target.name, target.schema or a var"),
		},
		"model": object{
			attributes: s.project.nodeFacts(s.node),
			text:       s.node.Name,
			missing:    refuse("model.%s is not supported: the name, tags, description and config of a model can be asked"),
		},
		"execute":             s.seen == nil,
		"is_incremental":      constant(s.incremental),
		"should_full_refresh": constant(s.project.refreshes(s.node)),
		"run_query":           function(s.runQuery),
		"log":                 function(s.log),
		"print":               function(s.log),
		"graph":               object{attributes: map[string]any{"nodes": s.graph()}, missing: refuse("graph.%s is not supported: graph.nodes has the models")},
	})
	return all
}

// overridden adds what a unit test says of names: of macros, and of dbt's own, as
// in dbt.current_timestamp.
func (s scope) overridden(globals map[string]any) map[string]any {
	if given, ok := s.given[s.node.Name]; ok {
		globals["this"] = object{attributes: map[string]any{"name": given, "identifier": given}, text: given}
	}
	for name, value := range s.overrides {
		constant := function(func([]any, map[string]any) (any, error) { return value, nil })
		if own, ok := strings.CutPrefix(name, "dbt."); ok {
			globals["dbt"].(object).attributes[own] = constant
		} else {
			globals[name] = constant
		}
	}
	return globals
}

// graph is what dbt tells of the models by their ids, as far as templates need
// it: nothing while a project is read, since not all is known yet.
func (s scope) graph() map[string]any {
	nodes := map[string]any{}
	if s.seen != nil {
		return nodes
	}
	for name, node := range s.project.nodes {
		if node.Kind == Model {
			facts := s.project.nodeFacts(node)
			facts["checksum"] = map[string]any{"checksum": checksumOf(node).Checksum}
			nodes["model."+s.project.name+"."+name] = facts
		}
	}
	return nodes
}

func (s scope) ref(args []any, named map[string]any) (any, error) {
	if len(named) > 0 {
		return nil, errors.New("ref: versions of models are not supported")
	}
	name, ok := lastText(args)
	if !ok || len(args) > 2 || len(args) == 2 && args[0] != s.project.name {
		return nil, errors.New("ref takes the name of a model of this project")
	}
	if s.seen != nil {
		s.seen.nodes = append(s.seen.nodes, name)
		return relationObject(warehouse.SchemaModels, name), nil
	}
	if given, ok := s.given[name]; ok {
		return object{attributes: map[string]any{"name": given, "identifier": given}, text: given}, nil
	}
	// A model can only name here what it named when the project was read, or
	// its place in the order would be wrong.
	if !slices.Contains(s.node.DependsOn, name) {
		return nil, fmt.Errorf("ref(%q) was not seen when the project was read: add the line  -- depends_on: {{ ref('%s') }}", name, name)
	}
	if target := s.project.nodes[name]; target.Materialized == Ephemeral {
		inner := s
		inner.node, inner.incremental, inner.config = target, false, nil
		text, err := inner.compile()
		if err != nil {
			return nil, err
		}
		return "(\n" + text + "\n)", nil
	}
	return relationObject(warehouse.SchemaModels, name), nil
}

func lastText(args []any) (string, bool) {
	if len(args) == 0 {
		return "", false
	}
	text, ok := args[len(args)-1].(string)
	return text, ok
}

func (s scope) source(args []any, _ map[string]any) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("source takes the names of a source and of its table")
	}
	name := fmt.Sprintf("%v.%v", args[0], args[1])
	if s.seen != nil {
		s.seen.sources = append(s.seen.sources, name)
	}
	if given, ok := s.given[name]; ok {
		return object{attributes: map[string]any{"name": given, "identifier": given}, text: given}, nil
	}
	found, ok := s.project.sources[name]
	if !ok && s.seen == nil {
		return nil, fmt.Errorf("there is no source %s", name)
	}
	return relationObject(found.schema, found.table), nil
}

func (s scope) configure(args []any, named map[string]any) (any, error) {
	if len(args) == 1 && len(named) == 0 {
		named, _ = args[0].(map[string]any)
	} else if len(args) > 0 {
		return nil, errors.New("config takes named arguments, as in config(materialized='table')")
	}
	if s.seen != nil {
		s.seen.config = s.seen.config.merge(named)
	}
	if partitions, ok := named["partitions"]; ok && s.config != nil {
		s.config["partitions"] = partitions
	}
	return "", nil
}

func (s scope) configGet(args []any, named map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok {
		return nil, errors.New("config.get takes a name and a default")
	}
	if s.seen != nil {
		if value, ok := s.seen.config[name]; ok {
			return value, nil
		}
	}
	if value, ok := s.node.config[name]; ok {
		return value, nil
	}
	if len(args) > 1 {
		return args[1], nil
	}
	return named["default"], nil
}

func (s scope) configRequire(args []any, named map[string]any) (any, error) {
	if value, err := s.configGet(args, named); err != nil || value != nil {
		return value, err
	}
	return nil, fmt.Errorf("config.require: the model has no config %q: add it to its config", args[0])
}

func (s scope) configSet(args []any, _ map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok || len(args) != 2 {
		return nil, errors.New("config.set takes a name and a value")
	}
	return s.configure(nil, map[string]any{name: args[1]})
}

func (s scope) metaGet(args []any, named map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok {
		return nil, errors.New("config.meta_get takes a name and a default")
	}
	meta, err := s.configGet([]any{"meta"}, nil)
	if err != nil {
		return nil, err
	}
	if of, ok := meta.(map[string]any); ok {
		if value, ok := of[name]; ok {
			return value, nil
		}
	}
	if len(args) > 1 {
		return args[1], nil
	}
	return named["default"], nil
}

func (s scope) metaRequire(args []any, named map[string]any) (any, error) {
	if value, err := s.metaGet(args, named); err != nil || value != nil {
		return value, err
	}
	return nil, fmt.Errorf("config.meta_require: the model has no meta %q: add it under meta in its config", args[0])
}

func firstText(args []any) (string, bool) {
	if len(args) == 0 {
		return "", false
	}
	text, ok := args[0].(string)
	return text, ok
}

func (s scope) variable(args []any, named map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok {
		return nil, errors.New("var takes a name and a default")
	}
	if node, ok := s.project.varNodes[name]; ok {
		return ordered(node, 0)
	}
	if value, ok := s.project.vars[name]; ok {
		return value, nil
	}
	if len(args) > 1 {
		return args[1], nil
	}
	if value, ok := named["default"]; ok {
		return value, nil
	}
	return nil, fmt.Errorf("the var %q has no value: add it under vars in dbt_project.yml, or give a default", name)
}

func (s scope) hasVariable(args []any, _ map[string]any) (any, error) {
	name, _ := firstText(args)
	_, ok := s.project.vars[name]
	return ok, nil
}

func (s scope) environment(args []any, named map[string]any) (any, error) {
	name, _ := firstText(args)
	if !strings.HasPrefix(name, "DBT_") && !strings.HasPrefix(name, "SLUIS_") {
		return nil, fmt.Errorf("env_var(%q) is refused: only variables that begin with DBT_ or SLUIS_ can be read", name)
	}
	if value, ok := s.project.options.Env[name]; ok {
		return value, nil
	}
	if len(args) > 1 {
		return args[1], nil
	}
	if value, ok := named["default"]; ok {
		return value, nil
	}
	return nil, fmt.Errorf("the environment variable %s is not set, and env_var has no default", name)
}

// dispatch finds the macro for the dialect, or else the default one.
func (s scope) dispatch(args []any, _ map[string]any) (any, error) {
	name, ok := firstText(args)
	if !ok {
		return nil, errors.New("adapter.dispatch takes the name of a macro")
	}
	for _, candidate := range []string{s.dialect + "__" + name, "default__" + name} {
		if s.project.engine.has(candidate) {
			return macroName(candidate), nil
		}
	}
	return nil, fmt.Errorf("there is no macro %s__%s, and no default__%s", s.dialect, name, name)
}

func (s scope) log(args []any, _ map[string]any) (any, error) {
	if s.seen == nil && len(args) > 0 {
		s.project.options.Logger.LogAttrs(context.Background(), levelOfTemplates, "template says", templateAttrs(s.node, args[0])...)
	}
	return "", nil
}

func raise(args []any, _ map[string]any) (any, error) {
	message, _ := firstText(args)
	if message == "" {
		message = "the template raised an error without a message"
	}
	return nil, errors.New(message)
}

// compile renders a node's query.
func (s scope) compile() (string, error) {
	text, err := s.node.template.render(s.overridden(s.globals()))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(text), nil
}
