package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	gonjaconfig "github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/nodes"
)

// engine renders Jinja. Everything else in the package is free of the library
// that does it.
type engine interface {
	// define makes the macros of a file callable from all templates.
	define(path, source string) []Problem
	// parse reads a template.
	parse(path, source string) (template, []Problem)
	// macros lists the names of all macros.
	macros() []string
}

// template is a parsed template. It may be rendered concurrently.
type template interface {
	// render resolves names in globals, whose values are plain values of Go,
	// function, object or callable. An error is a Problem.
	render(globals map[string]any) (string, error)
}

// function is what a template may call.
type function func(args []any, named map[string]any) (any, error)

// object is what a template may ask for attributes. It prints as String says.
type object struct {
	attributes map[string]any
	text       string
}

// macroName stands for the macro of that name, as the result of a function.
type macroName string

// callable is a function that has attributes, too.
type callable struct {
	call       function
	attributes map[string]any
}

// What a template could otherwise take down the process with.
const (
	maxDepth = 100
	maxRange = 100_000
)

// gonja is the engine. lint keeps from it what it would render wrongly.
type gonja struct {
	environment *exec.Environment
	config      *gonjaconfig.Config
	defined     map[string]*nodes.Macro
}

func newEngine() *gonja {
	strict := gonjaconfig.New()
	strict.StrictUndefined = true
	strict.KeepTrailingNewline = false
	return &gonja{
		environment: &exec.Environment{
			Context:           exec.EmptyContext(),
			Filters:           builtins.Filters,
			Tests:             builtins.Tests,
			ControlStructures: builtins.ControlStructures,
			Methods:           builtins.Methods,
		},
		config:  strict,
		defined: map[string]*nodes.Macro{},
	}
}

func (g *gonja) define(path, source string) []Problem {
	parsed, problems := g.read(path, source)
	if len(problems) > 0 {
		return problems
	}
	for name, macro := range parsed.Macros() {
		if _, ok := g.defined[name]; ok {
			problems = append(problems, Problem{Path: path, Message: fmt.Sprintf("the macro %q is defined twice in the project: rename one", name)})
		}
		g.defined[name] = macro
	}
	return problems
}

func (g *gonja) macros() []string { return slices.Sorted(maps.Keys(g.defined)) }

func (g *gonja) parse(path, source string) (template, []Problem) {
	parsed, problems := g.read(path, source)
	if len(problems) > 0 {
		return nil, problems
	}
	return &gonjaTemplate{engine: g, path: path, parsed: parsed}, nil
}

func (g *gonja) read(path, source string) (parsed *exec.Template, problems []Problem) {
	linted, problems := lint(path, source)
	if len(problems) > 0 {
		return nil, problems
	}
	defer func() {
		if r := recover(); r != nil {
			parsed, problems = nil, []Problem{{Path: path, Message: "the template cannot be read: look for braces or quotes that are not closed"}}
		}
	}()
	parsed, err := exec.NewTemplate(path, g.config, single{path, linted}, g.environment)
	if err != nil {
		return nil, []Problem{explain(path, linted, err)}
	}
	return parsed, nil
}

// single is a loader of one template: there is no including of others.
type single struct{ path, source string }

func (s single) Read(path string) (io.Reader, error) {
	if path != s.path {
		return nil, errors.New("templates cannot include others")
	}
	return strings.NewReader(s.source), nil
}
func (s single) Resolve(path string) (string, error)    { return path, nil }
func (s single) Inherit(string) (loaders.Loader, error) { return s, nil }

type gonjaTemplate struct {
	engine *gonja
	path   string
	parsed *exec.Template
}

func (t *gonjaTemplate) render(globals map[string]any) (text string, err error) {
	run := &rendering{macros: map[string]func(*exec.VarArgs) *exec.Value{}}
	defer func() {
		if r := recover(); r != nil {
			text, err = "", Problem{Path: t.path, Message: fmt.Sprintf("the template cannot be rendered: %v", r)}
		}
	}()
	context := exec.EmptyContext()
	for name, value := range globals {
		context.Set(name, run.export(value))
	}
	for _, none := range []string{"none", "None"} {
		context.Set(none, nil)
	}
	context.Set("range", run.export(function(boundedRange)))
	context.Set("namespace", mustGet(builtins.GlobalFunctions, "namespace"))
	context.Set("return", func(params *exec.VarArgs) (*exec.Value, error) { return nil, run.giveBack(params) })

	environment := *t.engine.environment
	environment.Context = context
	var out bytes.Buffer
	renderer := exec.NewRenderer(&environment, &out, t.engine.config, single{}, t.parsed)
	for name, node := range t.engine.defined {
		macro, err := exec.MacroNodeToFunc(node, renderer)
		if err != nil {
			return "", Problem{Path: t.path, Message: fmt.Sprintf("macro %s: %v", name, err)}
		}
		run.macros[name] = run.macro(name, macro)
		context.Set(name, run.macros[name])
	}
	if err := renderer.Execute(); err != nil {
		if run.cause != nil {
			return "", Problem{Path: t.path, Line: lineOf(err.Error()), Message: run.cause.Error()}
		}
		return "", explain(t.path, "", err)
	}
	return out.String(), nil
}

func mustGet(context *exec.Context, name string) any {
	value, _ := context.Get(name)
	return value
}

// rendering is the state of one rendering, which stays in one goroutine.
type rendering struct {
	macros map[string]func(*exec.VarArgs) *exec.Value
	frames []frame
	// cause is the first error of a function of ours. The library makes text
	// of it and wraps it many times.
	cause error
}

// frame is a macro being called.
type frame struct {
	returned bool
	value    *exec.Value
}

var errReturned = errors.New("return")

// macro adds to a macro what dbt adds: return. It is carried out as an error,
// which ends the macro, and is taken back here.
func (r *rendering) macro(name string, macro exec.Macro) func(*exec.VarArgs) *exec.Value {
	return func(params *exec.VarArgs) *exec.Value {
		if len(r.frames) >= maxDepth {
			return exec.AsValue(r.fail(fmt.Errorf("macro %s: macros call each other without end", name)))
		}
		r.frames = append(r.frames, frame{})
		result := macro(params)
		done := r.frames[len(r.frames)-1]
		r.frames = r.frames[:len(r.frames)-1]
		if done.returned {
			return done.value
		}
		return result
	}
}

func (r *rendering) giveBack(params *exec.VarArgs) error {
	if len(r.frames) == 0 || len(params.Args) != 1 {
		return r.fail(errors.New("return takes one value, and works inside macros of the macros folder"))
	}
	top := &r.frames[len(r.frames)-1]
	top.returned, top.value = true, params.Args[0]
	return errReturned
}

func (r *rendering) fail(err error) error {
	if r.cause == nil {
		r.cause = err
	}
	return err
}

// export turns one of our values into one of the library's.
func (r *rendering) export(value any) any {
	switch v := value.(type) {
	case function:
		return r.function(v)
	case callable:
		return newCallFunc(r.function(v.call), r.exportAll(v.attributes))
	case object:
		return &printed{r.exportAll(v.attributes), v.text}
	}
	return value
}

func (r *rendering) exportAll(values map[string]any) map[string]any {
	exported := make(map[string]any, len(values))
	for name, value := range values {
		exported[name] = r.export(value)
	}
	return exported
}

func (r *rendering) function(f function) func(*exec.VarArgs) (*exec.Value, error) {
	return func(params *exec.VarArgs) (*exec.Value, error) {
		args := make([]any, len(params.Args))
		for i, arg := range params.Args {
			args[i] = plain(arg)
		}
		named := make(map[string]any, len(params.KwArgs))
		for name, arg := range params.KwArgs {
			named[name] = plain(arg)
		}
		value, err := f(args, named)
		if err != nil {
			return nil, r.fail(err)
		}
		if name, ok := value.(macroName); ok {
			macro, found := r.macros[string(name)]
			if !found {
				return nil, r.fail(fmt.Errorf("there is no macro %q", string(name)))
			}
			return exec.AsValue(macro), nil
		}
		return exec.AsValue(r.export(value)), nil
	}
}

// printed is an object for the library.
type printed struct {
	attributes map[string]any
	text       string
}

func (p *printed) String() string { return p.text }

func (p *printed) GetAttribute(name string) (*exec.Value, bool) {
	value, ok := p.attributes[name]
	return exec.AsValue(value), ok
}

// callFunc is a callable for the library, which calls nothing but functions. A
// function has no room for attributes, so it is asked for them by a call.
type callFunc func(*exec.VarArgs) (*exec.Value, error)

type attributeName string

func newCallFunc(call func(*exec.VarArgs) (*exec.Value, error), attributes map[string]any) callFunc {
	return func(params *exec.VarArgs) (*exec.Value, error) {
		if len(params.Args) == 1 {
			if name, ok := params.Args[0].Interface().(attributeName); ok {
				value, found := attributes[string(name)]
				if !found {
					return nil, fmt.Errorf("there is no %q here", string(name))
				}
				return exec.AsValue(value), nil
			}
		}
		return call(params)
	}
}

func (f callFunc) GetAttribute(name string) (*exec.Value, bool) {
	value, err := f(&exec.VarArgs{Args: []*exec.Value{exec.AsValue(attributeName(name))}})
	if err != nil {
		return exec.AsValue(err), false
	}
	return value, true
}

// plain turns a value of the library into string, int, float64, bool, nil,
// []any or map[string]any.
func plain(value *exec.Value) any {
	switch {
	case value == nil || value.IsNil():
		return nil
	case value.IsString():
		return value.String()
	case value.IsBool():
		return value.Bool()
	case value.IsInteger():
		return value.Integer()
	case value.IsFloat():
		return value.Float()
	case value.IsDict():
		entries := map[string]any{}
		value.Iterate(func(_, _ int, key, entry *exec.Value) bool {
			entries[key.String()] = plain(entry)
			return true
		}, func() {})
		return entries
	case value.IsList():
		elements := []any{}
		value.Iterate(func(_, _ int, element, _ *exec.Value) bool {
			elements = append(elements, plain(element))
			return true
		}, func() {})
		return elements
	}
	if p, ok := value.Interface().(*printed); ok {
		return p.text
	}
	return value.Interface()
}

// boundedRange is range, for as many elements as a template may need.
func boundedRange(args []any, named map[string]any) (any, error) {
	bounds := [3]int{0, 0, 1}
	for i, arg := range args {
		n, ok := arg.(int)
		if !ok || i > 2 {
			return nil, errors.New("range takes one to three integers")
		}
		bounds[i] = n
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if len(args) == 1 {
		start, stop = 0, bounds[0]
	}
	if len(args) == 0 || len(named) > 0 || step == 0 {
		return nil, errors.New("range takes one to three integers, the third not zero")
	}
	elements := []any{}
	for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
		if len(elements) == maxRange {
			return nil, fmt.Errorf("range is limited to %d elements", maxRange)
		}
		elements = append(elements, i)
	}
	return elements, nil
}

var lineNumber = regexp.MustCompile(`(?i)line[ =:]+(\d+)`)

// lineOf finds the innermost line that the library's message tells.
func lineOf(message string) int {
	all := lineNumber.FindAllStringSubmatch(message, -1)
	if len(all) == 0 {
		return 0
	}
	line, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return 0
	}
	return line
}

// explain makes a problem of an error of the library, whose text may hold the
// whole template.
func explain(path, source string, err error) Problem {
	message := err.Error()
	if source != "" {
		message = strings.ReplaceAll(message, "failed to parse template '"+source+"': ", "")
	}
	message = strings.Join(strings.Fields(message), " ")
	if len(message) > 400 {
		message = message[:200] + " … " + message[len(message)-200:]
	}
	return Problem{Path: path, Line: lineOf(err.Error()), Message: message}
}
