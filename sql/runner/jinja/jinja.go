// Package jinja renders the templates of dbt projects as Jinja2 and dbt do, or
// refuses them with file and line.
//
// It is a walk over the tree of a template, with Python's values. What it
// renders, Jinja2 3.1 renders, to the letter: a corpus in testdata is held
// against it. What would differ is an error: undefined values that would be
// printed as nothing, ints of more than 64 bits, the order of sets.
//
// A template is bounded in depth, steps and size, so that none takes down the
// process that renders it.
package jinja

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The bounds of a rendering.
const (
	maxCalls = 150       // macros in each other
	maxSteps = 5_000_000 // expressions and statements, and what they write
	stepText = 64        // so many characters count as a step
	maxText  = 16 << 20  // bytes of a text
	maxItems = 1_000_000 // elements of a list
	maxRange = 100_000   // elements of a range, as in Jinja's sandbox
)

// Error is what is wrong with a template.
type Error struct {
	Path    string
	Line    int
	Message string
	// Calls are the macros that were being called, the innermost first.
	Calls []Call
	// Cause is the error of a function of the host's, if it was that.
	Cause error
}

// Call is a call of a macro.
type Call struct {
	Macro string
	Path  string // where it is called
	Line  int
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Message)
}

func (e *Error) Unwrap() error { return e.Cause }

func errorf(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...)}
}

// at tells the line of an error, unless a line inside of it was told.
func at(line int, err error) error {
	return placed(line, err)
}

func placed(line int, err error) *Error {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		return &Error{Line: line, Message: err.Error(), Cause: err}
	case e.Line > 0:
		return e
	}
	located := *e
	located.Line = line
	return &located
}

// Engine holds the macros that all templates can call. It may be used
// concurrently once they are defined.
type Engine struct {
	defined map[string]*definition
}

type definition struct {
	macro *macro
	path  string
}

// New returns an engine without macros.
func New() *Engine { return &Engine{defined: map[string]*definition{}} }

// Define makes the macros of a file callable; a test x becomes the macro
// test_x, as in dbt. Nothing else of the file is looked at, but for what would
// be taken for something that runs.
func (e *Engine) Define(path, source string) error { return e.define("", path, source) }

// DefineIn makes the macros of a file known as namespace.name: functions may
// return them as a MacroName, and templates cannot call them by name.
func (e *Engine) DefineIn(namespace, path, source string) error {
	return e.define(namespace+".", path, source)
}

func (e *Engine) define(prefix, path, source string) error {
	statements, err := parse(path, source)
	if err != nil {
		return err
	}
	for _, s := range statements {
		m, ok := s.(*macroStatement)
		if !ok {
			if _, isText := s.(*data); !isText {
				return &Error{Path: path, Line: s.line(), Message: "outside of macros nothing is run: move it into one, or into a model"}
			}
			continue
		}
		name := prefix + m.macro.name
		if other, ok := e.defined[name]; ok {
			return &Error{Path: path, Line: s.line(), Message: fmt.Sprintf("the macro %q is defined twice in the project, also in %s:%d: rename one", m.macro.name, other.path, other.macro.line)}
		}
		e.defined[name] = &definition{m.macro, path}
	}
	return nil
}

// Has tells whether there is a macro of the name.
func (e *Engine) Has(name string) bool { return e.defined[name] != nil }

// Template is a template that was read. It may be rendered concurrently.
type Template struct {
	engine     *Engine
	path       string
	statements []statement
}

// Parse reads a template. Its error is an *Error.
func (e *Engine) Parse(path, source string) (*Template, error) {
	statements, err := parse(path, source)
	if err != nil {
		return nil, err
	}
	return &Template{e, path, statements}, nil
}

func parse(path, source string) ([]statement, error) {
	if len(source) > maxText {
		return nil, &Error{Path: path, Line: 1, Message: "the file is too long"}
	}
	tokens, err := lex(source)
	if err == nil {
		p := &parser{tokens: tokens}
		var statements []statement
		if statements, err = p.body(); err == nil {
			return statements, nil
		}
	}
	located := *placed(strings.Count(source, "\n")+1, err)
	located.Path = path
	return nil, &located
}

// Render renders the template. Names mean macros, or else what globals says:
// plain values of Go (nil, bool, int, float64, string, []any, map[string]any),
// *Dict, *List, Tuple, Func or *Object. Its error is an *Error.
func (t *Template) Render(globals map[string]any) (string, error) {
	r := &run{engine: t.engine, globals: globals, path: t.path}
	var out strings.Builder
	f := &frame{r, &scope{}, &out}
	if err := f.runAll(t.statements); err != nil {
		if errors.Is(err, errReturn) {
			err = errorf("return works inside of macros alone")
		}
		return "", r.located(1, err)
	}
	return out.String(), nil
}

// run is the state of one rendering, which stays in one goroutine.
type run struct {
	engine  *Engine
	globals map[string]any
	path    string // of what is being run
	steps   int
	calls   int
	known   map[string]any // globals that were asked for, as values of ours
}

func (r *run) step(n int) error {
	if r.steps += n; r.steps > maxSteps {
		return errorf("the template takes too long: more than %d steps", maxSteps)
	}
	return nil
}

// weight is how many steps it is to make a value, or to go through it.
func weight(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) / stepText
	case *List:
		return len(v.Items) / 4
	case Tuple:
		return len(v) / 4
	case rangeValue:
		return v.len() / 4
	case *Dict:
		return v.Len() / 4
	case *Set:
		return v.dict.Len() / 4
	case view:
		return v.dict.Len() / 4
	case *iterator:
		return len(v.items) / 4
	}
	return 0
}

// located tells where an error is, unless that was told. What only leaves a
// loop or a macro stays what it is.
func (r *run) located(line int, err error) error {
	if errors.Is(err, errBreak) || errors.Is(err, errContinue) || errors.Is(err, errReturn) {
		return err
	}
	e := placed(line, err)
	if e.Path == "" {
		located := *e
		located.Path = r.path
		return &located
	}
	return e
}

// global is what a name means that is not set in the template.
func (r *run) global(name string) any {
	if v, ok := r.known[name]; ok {
		return v
	}
	v := r.lookup(name)
	if r.known == nil {
		r.known = map[string]any{}
	}
	r.known[name] = v
	return v
}

func (r *run) lookup(name string) any {
	if d, ok := r.engine.defined[name]; ok {
		return &macroValue{macro: d.macro, path: d.path}
	}
	if v, ok := r.globals[name]; ok {
		return r.value(v)
	}
	if f, ok := builtins[name]; ok {
		return &Object{Call: f}
	}
	return &undefined{what: name + " is undefined: set it, or correct the name of the variable or macro"}
}

// value turns a value of the host's into one of ours.
func (r *run) value(v any) any {
	switch v := v.(type) {
	case Func:
		return &Object{Call: v}
	case MacroName:
		if d, ok := r.engine.defined[string(v)]; ok {
			return &macroValue{macro: d.macro, path: d.path}
		}
		return &undefined{what: "there is no macro " + string(v)}
	}
	return Value(v)
}

// Value turns a plain value of Go into one that templates have. A map of Go
// has no order: templates may look into it, and not go through it.
func Value(v any) any {
	switch v := v.(type) {
	case []any:
		items := make([]any, len(v))
		for i, item := range v {
			items[i] = Value(item)
		}
		return &List{items}
	case []string:
		items := make([]any, len(v))
		for i, item := range v {
			items[i] = item
		}
		return &List{items}
	case map[string]any:
		d := NewDict()
		for _, key := range slices.Sorted(maps.Keys(v)) {
			_ = d.Set(key, Value(v[key]))
		}
		d.unknown = true
		return d
	case int64:
		return int(v)
	case int32:
		return int(v)
	case time.Time:
		return Moment(v)
	}
	return v
}

// Plain turns a value of a template into one of Go: nil, bool, int, float64,
// string, []any, map[string]any or *Object. Keys become texts.
func Plain(v any) any {
	return plain(v, new(walk))
}

func plain(v any, w *walk) any {
	if w.enter() != nil {
		return nil
	}
	defer w.leave()
	all := func(items []any) []any {
		plains := make([]any, len(items))
		for i, item := range items {
			plains[i] = plain(item, w)
		}
		return plains
	}
	switch v := v.(type) {
	case markup:
		return string(v)
	case *undefined:
		return nil
	case *Dict:
		entries := make(map[string]any, v.Len())
		for i, key := range v.keys {
			name, err := str(key)
			if err != nil {
				name = typeName(key)
			}
			entries[name] = plain(v.values[i], w)
		}
		return entries
	case *List:
		return all(v.Items)
	case Tuple:
		return all(v)
	case *Set:
		return all(v.dict.keys)
	case moment:
		return v.String()
	case rangeValue, view, *iterator, *mapped, *Table:
		items, err := collect(v, false)
		if err != nil {
			return nil
		}
		return all(items)
	}
	return v
}

// IsUndefined tells whether a value given to a function is none at all.
func IsUndefined(v any) bool {
	_, ok := v.(*undefined)
	return ok
}

// Undefined returns what is missing, if a value is none at all.
func Undefined(v any) error {
	if u, ok := v.(*undefined); ok {
		return u.err()
	}
	return nil
}

// Text is what a value prints as.
func Text(v any) (string, error) { return str(v) }
