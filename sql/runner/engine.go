package runner

import (
	"fmt"
	"strings"

	"github.com/sluis-cdp/sluis/sql/runner/jinja"
)

// engine renders Jinja. Everything else in the package is free of what does it.
type engine interface {
	// define makes the macros of a file callable from all templates.
	define(path, source string) []Problem
	// parse reads a template.
	parse(path, source string) (template, []Problem)
	// has tells whether there is a macro of the name; dbt's begin with "dbt.".
	has(name string) bool
}

// template is a parsed template. It may be rendered concurrently.
type template interface {
	// render resolves names in globals, whose values are plain values of Go,
	// function, object, callable or values of the package jinja. An error is a
	// Problem.
	render(globals map[string]any) (string, error)
}

// function is what a template may call. Its arguments are plain values of Go;
// objects come as the text that they print as.
type function func(args []any, named map[string]any) (any, error)

// object is what a template may ask for attributes. It prints as text says; one
// without text cannot be printed.
type object struct {
	attributes map[string]any
	text       string
	// missing, if set, refuses attributes that are not there, with a remedy.
	missing func(name string) error
}

// macroName stands for the macro of that name, as the result of a function.
type macroName string

// callable is a function that has attributes, too.
type callable struct {
	call       function
	attributes map[string]any
}

// pythonic is the engine: sql/runner/jinja, for the values of this package.
type pythonic struct{ *jinja.Engine }

func newEngine() engine {
	e := jinja.New()
	if err := e.DefineIn("dbt", "dbt", portableMacros); err != nil {
		panic(err) // it is part of the program
	}
	return pythonic{e}
}

func (e pythonic) has(name string) bool { return e.Has(name) }

func (e pythonic) define(path, source string) []Problem {
	if err := e.Define(path, source); err != nil {
		return []Problem{problemOf(path, err)}
	}
	return nil
}

func (e pythonic) parse(path, source string) (template, []Problem) {
	parsed, err := e.Parse(path, source)
	if err != nil {
		return nil, []Problem{problemOf(path, err)}
	}
	return pythonicTemplate{path, parsed}, nil
}

type pythonicTemplate struct {
	path   string
	parsed *jinja.Template
}

func (t pythonicTemplate) render(globals map[string]any) (string, error) {
	exported := make(map[string]any, len(globals))
	for name, value := range globals {
		exported[name] = export(value)
	}
	text, err := t.parsed.Render(exported)
	if err != nil {
		return "", problemOf(t.path, err)
	}
	return text, nil
}

// problemOf says of an error where the template at path leads to it, and by
// which macros it got there.
func problemOf(path string, err error) Problem {
	located, ok := err.(*jinja.Error) //nolint:errorlint // it is the engine's own, and not wrapped
	if !ok {
		return Problem{Path: path, Message: err.Error()}
	}
	p := Problem{Path: located.Path, Line: located.Line, Message: located.Message}
	if len(located.Calls) == 0 {
		return p
	}
	var trail []string
	for _, call := range located.Calls {
		trail = append(trail, fmt.Sprintf("%s, %s:%d", call.Macro, p.Path, p.Line))
		p.Path, p.Line = call.Path, call.Line
	}
	p.Message += " (in the macro " + strings.Join(trail, ", called by ") + ")"
	return p
}

// export turns one of our values into one of the engine's.
func export(value any) any {
	switch v := value.(type) {
	case function:
		return v.exported()
	case macroName:
		return jinja.MacroName(v)
	case callable:
		return &jinja.Object{Call: v.call.exported(), Attributes: exportAll(v.attributes)}
	case object:
		return &jinja.Object{Attributes: exportAll(v.attributes), Text: v.text, Missing: v.missing}
	}
	return value
}

func exportAll(values map[string]any) map[string]any {
	exported := make(map[string]any, len(values))
	for name, value := range values {
		exported[name] = export(value)
	}
	return exported
}

func (f function) exported() jinja.Func {
	return func(args []any, named *jinja.Dict) (any, error) {
		plains := make([]any, len(args))
		for i, arg := range args {
			var err error
			if plains[i], err = imported(arg); err != nil {
				return nil, err
			}
		}
		byName := map[string]any{}
		for name, arg := range named.All() {
			v, err := imported(arg)
			if err != nil {
				return nil, err
			}
			byName[fmt.Sprint(name)] = v
		}
		v, err := f(plains, byName)
		return export(v), err
	}
}

// imported turns a value of the engine into a plain one.
func imported(v any) (any, error) {
	if err := jinja.Undefined(v); err != nil {
		return nil, err
	}
	return textOfObjects(jinja.Plain(v)), nil
}

// textOfObjects puts the text of what prints, such as a relation, for it.
func textOfObjects(v any) any {
	switch v := v.(type) {
	case *jinja.Object:
		if v.Text != "" {
			return v.Text
		}
	case []any:
		for i := range v {
			v[i] = textOfObjects(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = textOfObjects(v[key])
		}
	}
	return v
}
