package jinja

import (
	"errors"
	"slices"
	"strings"
)

// macro is a macro, or the body of a call block.
type macro struct {
	line       int
	name       string
	parameters []parameter
	body       []statement

	varargs, kwargs, caller bool // that its body uses
}

type parameter struct {
	name      string
	otherwise expr // nil: undefined if not given
}

// macroValue is a macro that can be called.
type macroValue struct {
	macro *macro
	scope *scope // where a call block is; nil for macros, which see globals alone
	path  string
}

// settle finds out what of its arguments the macro uses beyond its parameters.
// As in Jinja, only a macro that uses them takes more than these.
func (m *macro) settle() {
	uses := func(name string) bool {
		return !slices.ContainsFunc(m.parameters, func(p parameter) bool { return p.name == name }) && usesName(m.body, name)
	}
	m.varargs, m.kwargs, m.caller = uses("varargs"), uses("kwargs"), uses("caller")
}

// returned carries the value of return out of a macro.
type returned struct{ value any }

func (*returned) Error() string        { return "return" }
func (*returned) Is(target error) bool { return target == errReturn }

var errReturn = errors.New("return")

func giveBack(args []any, named *Dict) (any, error) {
	if len(args)+named.Len() != 1 {
		return nil, errorf("return takes one value")
	}
	return nil, &returned{append(args, named.values...)[0]}
}

// call calls what can be called.
func (r *run) call(of any, args []any, named *Dict, line int) (any, error) {
	switch of := of.(type) {
	case *macroValue:
		return r.callMacro(of, args, named, line)
	case *method:
		return of.call(args, named)
	case *Object:
		if of.Call == nil {
			return nil, errorf("this cannot be called")
		}
		v, err := of.Call(args, named)
		if err != nil {
			return nil, err
		}
		return r.value(v), nil
	case *undefined:
		return nil, of.err()
	}
	return nil, errorf("a %s cannot be called", typeName(of))
}

func (r *run) callMacro(v *macroValue, args []any, named *Dict, line int) (any, error) {
	if r.calls >= maxCalls {
		return nil, errorf("macro %s: macros call each other without end, or more than %d deep", v.macro.name, maxCalls)
	}
	caller := r.path
	r.calls++
	r.path = v.path
	result, err := r.body(v, args, named)
	r.calls--
	r.path = caller
	if err == nil {
		return result, nil
	}
	if back, ok := errors.AsType[*returned](err); ok && v.scope == nil {
		return back.value, nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || v.scope != nil {
		return nil, err
	}
	traced := *e
	if traced.Path == "" { // in its arguments: the fault of the call
		return nil, err
	}
	traced.Calls = append(slices.Clone(e.Calls), Call{v.macro.name, caller, line})
	return nil, &traced
}

func (r *run) body(v *macroValue, args []any, named *Dict) (any, error) {
	m := v.macro
	var out strings.Builder
	f := &frame{r, &scope{parent: v.scope}, &out}
	if err := m.bind(f, args, named); err != nil {
		return nil, err
	}
	if err := f.runAll(m.body); err != nil {
		return nil, err
	}
	return out.String(), nil
}

// bind sets a macro's parameters to what it is called with.
func (m *macro) bind(f *frame, args []any, named *Dict) error {
	rest := named.copy()
	for i, p := range m.parameters {
		if i < len(args) {
			f.scope.set(p.name, args[i])
			continue
		}
		if v, ok := rest.remove(p.name); ok {
			f.scope.set(p.name, v)
			continue
		}
		if p.otherwise == nil {
			f.scope.set(p.name, &undefined{what: "the parameter " + p.name + " was not given"})
			continue
		}
		v, err := f.value(p.otherwise)
		if err != nil {
			return err
		}
		f.scope.set(p.name, v)
	}
	if m.caller {
		v, ok := rest.remove("caller")
		if !ok || v == nil {
			v = &undefined{what: "there is no caller: use a call block"}
		}
		f.scope.set("caller", v)
	}
	if m.kwargs {
		f.scope.set("kwargs", rest)
	} else if rest.Len() > 0 {
		name, _ := str(rest.keys[0])
		return errorf("the macro %s takes no argument %s, or was given it twice", m.name, name)
	}
	if m.varargs {
		f.scope.set("varargs", append(Tuple{}, args[min(len(args), len(m.parameters)):]...))
	} else if len(args) > len(m.parameters) {
		return errorf("the macro %s takes %d arguments, and was given %d", m.name, len(m.parameters), len(args))
	}
	return nil
}

// usesName tells whether statements read a name.
func usesName(statements []statement, name string) bool {
	u := &usage{name: name}
	u.statements(statements)
	return u.found
}

type usage struct {
	name  string
	found bool
}

func (u *usage) statements(all []statement) {
	for _, s := range all {
		u.statement(s)
	}
}

func (u *usage) statement(s statement) {
	switch s := s.(type) {
	case *output:
		u.exprs(s.parts...)
	case *ifStatement:
		for _, b := range s.branches {
			u.exprs(b.test)
			u.statements(b.body)
		}
		u.statements(s.otherwise)
	case *forStatement:
		u.exprs(s.over, s.test)
		u.statements(s.body)
		u.statements(s.otherwise)
	case *set:
		u.exprs(s.value, s.filter)
		u.statements(s.body)
	case *do:
		u.exprs(s.expr)
	case *with:
		u.exprs(s.values...)
		u.statements(s.body)
	case *filterStatement:
		u.exprs(s.filter)
		u.statements(s.body)
	case *callStatement:
		u.exprs(s.call)
		for _, p := range s.caller.parameters {
			u.exprs(p.otherwise)
		}
		u.statements(s.caller.body)
	}
}

func (u *usage) arguments(args arguments) {
	u.exprs(args.positional...)
	u.exprs(args.named...)
	u.exprs(args.star, args.starStar)
}

func (u *usage) exprs(all ...expr) {
	for _, e := range all {
		switch e := e.(type) {
		case *variable:
			u.found = u.found || e.name == u.name
		case *listLiteral:
			u.exprs(e.items...)
		case *tupleLiteral:
			u.exprs(e.items...)
		case *dictLiteral:
			u.exprs(e.keys...)
			u.exprs(e.values...)
		case *attribute:
			u.exprs(e.of)
		case *subscript:
			u.exprs(e.of, e.key)
		case *slicing:
			u.exprs(e.parts[:]...)
		case *call:
			u.exprs(e.of)
			u.arguments(e.args)
		case *filter:
			u.exprs(e.operand)
			u.arguments(e.args)
		case *test:
			u.exprs(e.operand)
			u.arguments(e.args)
		case *condition:
			u.exprs(e.then, e.test, e.otherwise)
		case *logic:
			u.exprs(e.a, e.b)
		case *negation:
			u.exprs(e.of)
		case *comparison:
			u.exprs(e.first)
			u.exprs(e.operands...)
		case *arithmetic:
			u.exprs(e.a, e.b)
		case *concatenation:
			u.exprs(e.parts...)
		case *sign:
			u.exprs(e.of)
		}
	}
}

// loopValue is the name loop inside of a for.
type loopValue struct {
	over    any
	next    func() (any, bool, error)
	index   int
	ahead   []any // what was looked at before its turn: one element, or none
	ended   bool
	length  int
	counted bool
	current any
	before  any
	seen    []any // by changed
}

// advance goes to the next element.
func (l *loopValue) advance() (any, bool, error) {
	v, ok, err := l.peek()
	if err != nil || !ok {
		return nil, false, err
	}
	l.ahead = nil
	if l.index >= 0 {
		l.before = l.current
	}
	l.index++
	l.current = v
	return v, true, nil
}

func (l *loopValue) peek() (any, bool, error) {
	if len(l.ahead) > 0 {
		return l.ahead[0], true, nil
	}
	if l.ended {
		return nil, false, nil
	}
	v, ok, err := l.next()
	if err != nil {
		return nil, false, err
	}
	if !ok {
		l.ended = true
		return nil, false, nil
	}
	l.ahead = []any{v}
	return v, true, nil
}

// count is how many elements there are. For what has no length, the rest is
// read now, as Jinja does.
func (l *loopValue) count() (int, error) {
	if l.counted {
		return l.length, nil
	}
	l.counted = true
	switch l.over.(type) {
	case nil, *iterator:
	default:
		var err error
		l.length, err = length(l.over)
		return l.length, err
	}
	rest := slices.Clone(l.ahead)
	for !l.ended {
		v, ok, err := l.next()
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if rest = append(rest, v); len(rest) > maxItems {
			return 0, errTooLong
		}
	}
	at := 0
	l.ended, l.ahead = false, nil
	l.next = func() (any, bool, error) {
		if at == len(rest) {
			return nil, false, nil
		}
		at++
		return rest[at-1], true, nil
	}
	l.length = len(rest) + l.index + 1
	return l.length, nil
}

func (l *loopValue) attribute(name string) (any, bool, error) {
	switch name {
	case "index":
		return l.index + 1, true, nil
	case "index0":
		return l.index, true, nil
	case "first":
		return l.index == 0, true, nil
	case "depth":
		return 1, true, nil
	case "depth0":
		return 0, true, nil
	case "last", "nextitem":
		v, more, err := l.peek()
		if err != nil {
			return nil, false, err
		}
		if name == "last" {
			return !more, true, nil
		}
		if !more {
			v = &undefined{what: "there is no next item"}
		}
		return v, true, nil
	case "previtem":
		if l.index == 0 {
			return &undefined{what: "there is no previous item"}, true, nil
		}
		return l.before, true, nil
	case "length", "revindex", "revindex0":
		n, err := l.count()
		switch name {
		case "revindex":
			n -= l.index
		case "revindex0":
			n -= l.index + 1
		}
		return n, true, err
	case "cycle":
		return &method{name, func(args []any, named *Dict) (any, error) {
			if len(args) == 0 || named.Len() > 0 {
				return nil, errorf("loop.cycle takes the values to choose from")
			}
			return args[l.index%len(args)], nil
		}}, true, nil
	case "changed":
		return &method{name, l.changed}, true, nil
	}
	return nil, false, nil
}

func (l *loopValue) changed(args []any, _ *Dict) (any, error) {
	before := l.seen
	l.seen = append([]any{}, args...)
	if before == nil {
		return true, nil
	}
	same, err := equalAll(before, args, new(walk))
	return !same, err
}
