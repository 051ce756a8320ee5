package jinja

import (
	"errors"
	"slices"
	"strings"
)

// pos is the line that something is written in.
type pos int

func (p pos) line() int { return int(p) }

type expr interface {
	line() int
	eval(f *frame) (any, error)
}

type statement interface {
	line() int
	run(f *frame) error
}

// arguments are what is given to a call.
type arguments struct {
	positional []expr
	names      []string
	named      []expr
	star       expr
	starStar   expr
}

type (
	constant struct {
		pos
		value any
	}
	variable struct {
		pos
		name string
	}
	listLiteral struct {
		pos
		items []expr
	}
	tupleLiteral struct {
		pos
		items []expr
	}
	dictLiteral struct {
		pos
		keys, values []expr
	}
	attribute struct {
		pos
		of   expr
		name string
	}
	subscript struct {
		pos
		of, key expr
	}
	slicing struct {
		pos
		parts [3]expr
	}
	call struct {
		pos
		of   expr
		args arguments
	}
	filter struct {
		pos
		name    string
		operand expr
		args    arguments
	}
	test struct {
		pos
		name    string
		operand expr
		args    arguments
	}
	condition struct {
		pos
		then, test, otherwise expr
	}
	logic struct {
		pos
		op   string
		a, b expr
	}
	negation struct {
		pos
		of expr
	}
	comparison struct {
		pos
		first    expr
		ops      []string
		operands []expr
	}
	arithmetic struct {
		pos
		op   string
		a, b expr
	}
	concatenation struct {
		pos
		parts []expr
	}
	sign struct {
		pos
		op string
		of expr
	}
)

// value evaluates an expression: one step, whose error is told with its line.
func (f *frame) value(e expr) (any, error) {
	if err := f.r.step(1); err != nil {
		return nil, at(e.line(), err)
	}
	v, err := e.eval(f)
	if err != nil {
		return nil, f.r.located(e.line(), err)
	}
	return v, nil
}

func (f *frame) values(exprs []expr) ([]any, error) {
	all := make([]any, len(exprs))
	for i, e := range exprs {
		v, err := f.value(e)
		if err != nil {
			return nil, err
		}
		all[i] = v
	}
	return all, nil
}

func (e *constant) eval(*frame) (any, error) { return e.value, nil }

func (e *variable) eval(f *frame) (any, error) { return f.scope.lookup(f.r, e.name), nil }

func (e *listLiteral) eval(f *frame) (any, error) {
	items, err := f.values(e.items)
	return &List{items}, err
}

func (e *tupleLiteral) eval(f *frame) (any, error) {
	items, err := f.values(e.items)
	return Tuple(items), err
}

func (e *dictLiteral) eval(f *frame) (any, error) {
	d := NewDict()
	for i := range e.keys {
		key, err := f.value(e.keys[i])
		if err != nil {
			return nil, err
		}
		value, err := f.value(e.values[i])
		if err != nil {
			return nil, err
		}
		if err := d.Set(key, value); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (e *attribute) eval(f *frame) (any, error) {
	of, err := f.value(e.of)
	if err != nil {
		return nil, err
	}
	return f.r.attribute(of, e.name)
}

// attribute is v.name: an attribute, or else an element.
func (r *run) attribute(v any, name string) (any, error) {
	if u, ok := v.(*undefined); ok {
		return nil, u.err()
	}
	if found, ok, err := r.member(v, name); ok || err != nil {
		return found, err
	}
	if found, ok, err := item(v, name); ok || err != nil {
		return found, err
	}
	return r.missing(v, name)
}

// element is v[key]: an element, or else an attribute.
func (r *run) element(v, key any) (any, error) {
	if u, ok := v.(*undefined); ok {
		return nil, u.err()
	}
	if found, ok, err := item(v, key); ok || err != nil {
		return found, err
	}
	name, ok := key.(string)
	if ok {
		if found, ok, err := r.member(v, name); ok || err != nil {
			return found, err
		}
		return r.missing(v, name)
	}
	text, err := repr(key, new(walk))
	if err != nil {
		return nil, err
	}
	return &undefined{what: "there is no element " + text + " in the " + typeName(v)}, nil
}

func (r *run) missing(v any, name string) (any, error) {
	if o, ok := v.(*Object); ok && o.Missing != nil {
		if err := o.Missing(name); err != nil {
			return nil, err
		}
	}
	return &undefined{what: "the " + typeName(v) + " has no " + name}, nil
}

// member is an attribute or a method.
func (r *run) member(v any, name string) (any, bool, error) {
	if strings.HasPrefix(name, "_") {
		return nil, false, nil
	}
	switch v := v.(type) {
	case *Object:
		found, ok := v.Attributes[name]
		return r.value(found), ok, nil
	case *namespace:
		found, ok := v.dict.Get(name)
		return found, ok, nil
	case *loopValue:
		return v.attribute(name)
	case *mapped:
		found, ok := v.member(name)
		return found, ok, nil
	case *Table:
		found, ok := v.member(name)
		return found, ok, nil
	case moment:
		return v.member(name)
	case span:
		return v.member(name)
	case Tuple:
		if name == "grouper" || name == "list" {
			return nil, false, errorf("%s of a group is not supported: loop over both, as in for key, rows in t | groupby('x')", name)
		}
	case *macroValue:
		if name == "name" {
			return nil, false, errorf("the name of a macro is dbt's own: write it as a text")
		}
	}
	return methodOf(r, v, name)
}

func (e *subscript) eval(f *frame) (any, error) {
	of, err := f.value(e.of)
	if err != nil {
		return nil, err
	}
	if bounds, ok := e.key.(*slicing); ok {
		var parts [3]any
		for i, part := range bounds.parts {
			if part == nil {
				continue
			}
			if parts[i], err = f.value(part); err != nil {
				return nil, err
			}
		}
		if u, ok := of.(*undefined); ok {
			return nil, u.err()
		}
		return slice(of, parts)
	}
	key, err := f.value(e.key)
	if err != nil {
		return nil, err
	}
	return f.r.element(of, key)
}

func (e *slicing) eval(*frame) (any, error) {
	return nil, errorf("a slice among several keys is not supported")
}

func (f *frame) arguments(args arguments) ([]any, *Dict, error) {
	positional, err := f.values(args.positional)
	if err != nil {
		return nil, nil, err
	}
	named := NewDict()
	for i, name := range args.names {
		v, err := f.value(args.named[i])
		if err != nil {
			return nil, nil, err
		}
		_ = named.Set(name, v)
	}
	if args.star != nil {
		v, err := f.value(args.star)
		if err != nil {
			return nil, nil, err
		}
		more, err := elements(v)
		if err != nil {
			return nil, nil, err
		}
		positional = append(positional, more...)
	}
	if args.starStar == nil {
		return positional, named, nil
	}
	v, err := f.value(args.starStar)
	if err != nil {
		return nil, nil, err
	}
	more, ok := v.(*Dict)
	if !ok {
		return nil, nil, errorf("** takes a dict, and this is a %s", typeName(v))
	}
	for i, key := range more.keys {
		name, ok := key.(string)
		if _, twice := named.Get(key); !ok || twice {
			return nil, nil, errorf("** takes a dict of names, each of which is given once")
		}
		_ = named.Set(name, more.values[i])
	}
	named.unknown = more.unknown
	return positional, named, nil
}

func (e *call) eval(f *frame) (any, error) {
	of, err := f.value(e.of)
	if err != nil {
		return nil, err
	}
	args, named, err := f.arguments(e.args)
	if err != nil {
		return nil, err
	}
	return f.r.call(of, args, named, e.line())
}

func (e *filter) eval(f *frame) (any, error) {
	v, err := f.value(e.operand)
	if err != nil {
		return nil, err
	}
	args, named, err := f.arguments(e.args)
	if err != nil {
		return nil, err
	}
	return f.r.filter(e.name, v, args, named)
}

func (e *test) eval(f *frame) (any, error) {
	v, err := f.value(e.operand)
	if err != nil {
		return nil, err
	}
	args, named, err := f.arguments(e.args)
	if err != nil {
		return nil, err
	}
	if named.Len() > 0 {
		return nil, errorf("the test %s takes no named arguments here", e.name)
	}
	return f.r.test(e.name, v, args)
}

func (e *condition) eval(f *frame) (any, error) {
	test, err := f.value(e.test)
	if err != nil {
		return nil, err
	}
	switch {
	case truth(test):
		return f.value(e.then)
	case e.otherwise == nil:
		return &undefined{what: "the condition is false, and there is no else", empty: true}, nil
	}
	return f.value(e.otherwise)
}

func (e *logic) eval(f *frame) (any, error) {
	a, err := f.value(e.a)
	if err != nil || truth(a) == (e.op == "or") {
		return a, err
	}
	return f.value(e.b)
}

func (e *negation) eval(f *frame) (any, error) {
	v, err := f.value(e.of)
	return !truth(v), err
}

func (e *comparison) eval(f *frame) (any, error) {
	a, err := f.value(e.first)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		b, err := f.value(e.operands[i])
		if err != nil {
			return nil, err
		}
		if err := f.r.step(weight(a) + weight(b)); err != nil {
			return nil, err
		}
		if holds, err := related(op, a, b); err != nil || !holds {
			return false, err
		}
		a = b
	}
	return true, nil
}

func (e *arithmetic) eval(f *frame) (any, error) {
	a, err := f.value(e.a)
	if err != nil {
		return nil, err
	}
	b, err := f.value(e.b)
	if err != nil {
		return nil, err
	}
	v, err := binary(e.op, a, b)
	if err != nil {
		return nil, err
	}
	return v, f.r.step(weight(v))
}

func (e *concatenation) eval(f *frame) (any, error) {
	var b strings.Builder
	for _, part := range e.parts {
		v, err := f.value(part)
		if err != nil {
			return nil, err
		}
		text, err := str(v)
		if err != nil {
			return nil, err
		}
		if b.Len()+len(text) > maxText {
			return nil, errTooLong
		}
		b.WriteString(text)
	}
	return b.String(), f.r.step(b.Len() / stepText)
}

func (e *sign) eval(f *frame) (any, error) {
	v, err := f.value(e.of)
	if err != nil {
		return nil, err
	}
	return unary(e.op, v)
}

// scope is where names are set. What is set in a loop or a macro is not seen
// outside of it.
type scope struct {
	vars   map[string]any
	parent *scope
}

func (s *scope) lookup(r *run, name string) any {
	for at := s; at != nil; at = at.parent {
		if v, ok := at.vars[name]; ok {
			return v
		}
	}
	return r.global(name)
}

func (s *scope) set(name string, v any) {
	if s.vars == nil {
		s.vars = map[string]any{}
	}
	s.vars[name] = v
}

// frame is where statements run: what they see, and what they write to.
type frame struct {
	r     *run
	scope *scope
	out   *strings.Builder
}

func (f *frame) inner() *frame { return &frame{f.r, &scope{parent: f.scope}, f.out} }

func (f *frame) write(text string) error {
	if f.out.Len()+len(text) > maxText {
		return errTooLong
	}
	f.out.WriteString(text)
	return f.r.step(len(text) / stepText)
}

func (f *frame) runAll(statements []statement) error {
	for _, s := range statements {
		if err := f.r.step(1); err != nil {
			return at(s.line(), err)
		}
		if err := s.run(f); err != nil {
			return f.r.located(s.line(), err)
		}
	}
	return nil
}

// captured runs statements in a scope of their own, and returns what they write.
func (f *frame) captured(statements []statement) (string, error) {
	var out strings.Builder
	inner := &frame{f.r, &scope{parent: f.scope}, &out}
	err := inner.runAll(statements)
	return out.String(), err
}

// target is what is set: a name, an attribute of a namespace, or several of them.
type target struct {
	name, attribute string
	parts           []*target
}

func (t *target) names(name string) bool {
	return t.name == name && t.attribute == "" || slices.ContainsFunc(t.parts, func(part *target) bool { return part.names(name) })
}

func (t *target) assign(f *frame, v any) error {
	switch {
	case t.attribute != "":
		ns, ok := f.scope.lookup(f.r, t.name).(*namespace)
		if !ok {
			return errorf("%s is no namespace, so its attributes cannot be set: make it with namespace(), or use %s.update({…})", t.name, t.name)
		}
		return ns.dict.Set(t.attribute, v)
	case t.name != "":
		f.scope.set(t.name, v)
		return nil
	}
	items, err := elements(v)
	if err != nil {
		return err
	}
	if len(items) != len(t.parts) {
		return errorf("%d values cannot be set to %d names", len(items), len(t.parts))
	}
	for i, part := range t.parts {
		if err := part.assign(f, items[i]); err != nil {
			return err
		}
	}
	return nil
}

type (
	data struct {
		pos
		text string
	}
	output struct {
		pos
		parts []expr
	}
	branch struct {
		test expr
		body []statement
	}
	ifStatement struct {
		pos
		branches  []branch
		otherwise []statement
	}
	forStatement struct {
		pos
		target          *target
		over, test      expr
		body, otherwise []statement
	}
	set struct {
		pos
		target *target
		value  expr
		filter expr
		body   []statement // of a block
	}
	do struct {
		pos
		expr expr
	}
	with struct {
		pos
		targets []*target
		values  []expr
		body    []statement
	}
	filterStatement struct {
		pos
		filter expr
		body   []statement
	}
	callStatement struct {
		pos
		call   *call
		caller *macro
	}
	macroStatement struct {
		pos
		macro *macro
	}
	leave struct {
		pos
		what string
	}
)

func (s *data) run(f *frame) error { return f.write(s.text) }

func (s *output) run(f *frame) error {
	for _, part := range s.parts {
		v, err := f.value(part)
		if err != nil {
			return err
		}
		text, err := str(v)
		if err != nil {
			return f.r.located(part.line(), err)
		}
		if err := f.write(text); err != nil {
			return err
		}
	}
	return nil
}

func (s *ifStatement) run(f *frame) error {
	for _, b := range s.branches {
		test, err := f.value(b.test)
		if err != nil {
			return err
		}
		if truth(test) {
			return f.runAll(b.body)
		}
	}
	return f.runAll(s.otherwise)
}

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

func (s *leave) run(*frame) error {
	if s.what == "break" {
		return errBreak
	}
	return errContinue
}

func (s *forStatement) run(f *frame) error {
	over, err := f.value(s.over)
	if err != nil {
		return err
	}
	next, err := each(over, true)
	if err != nil {
		return err
	}
	loop := &loopValue{over: over, next: next, index: -1}
	if s.test != nil {
		loop.next, loop.over = s.filtered(f, next), nil
	}
	for {
		v, ok, err := loop.advance()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := f.r.step(4); err != nil {
			return err
		}
		inner := f.inner()
		if err := s.target.assign(inner, v); err != nil {
			return err
		}
		inner.scope.set("loop", loop)
		if err := inner.runAll(s.body); errors.Is(err, errBreak) {
			return nil
		} else if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	if loop.index < 0 {
		return f.inner().runAll(s.otherwise)
	}
	return nil
}

func (s *forStatement) filtered(f *frame, next func() (any, bool, error)) func() (any, bool, error) {
	return func() (any, bool, error) {
		for {
			v, ok, err := next()
			if err != nil || !ok {
				return nil, false, err
			}
			if err := f.r.step(4); err != nil {
				return nil, false, err
			}
			inner := f.inner()
			if err := s.target.assign(inner, v); err != nil {
				return nil, false, err
			}
			test, err := inner.value(s.test)
			if err != nil {
				return nil, false, err
			}
			if truth(test) {
				return v, true, nil
			}
		}
	}
}

func (s *set) run(f *frame) error {
	if s.body == nil {
		v, err := f.value(s.value)
		if err != nil {
			return err
		}
		return s.target.assign(f, v)
	}
	text, err := f.captured(s.body)
	if err != nil {
		return err
	}
	v := any(text)
	if s.filter != nil {
		if v, err = f.applied(s.filter, text); err != nil {
			return err
		}
	}
	return s.target.assign(f, v)
}

// applied runs the filters of a block on what the block wrote.
func (f *frame) applied(e expr, text string) (any, error) {
	chain, ok := e.(*filter)
	if !ok {
		if _, isText := e.(*constant); isText {
			return text, nil
		}
		return nil, errorf("only filters can follow here")
	}
	v, err := f.applied(chain.operand, text)
	if err != nil {
		return nil, err
	}
	args, named, err := f.arguments(chain.args)
	if err != nil {
		return nil, err
	}
	return f.r.filter(chain.name, v, args, named)
}

func (s *do) run(f *frame) error {
	_, err := f.value(s.expr)
	return err
}

func (s *with) run(f *frame) error {
	values, err := f.values(s.values)
	if err != nil {
		return err
	}
	inner := f.inner()
	for i, t := range s.targets {
		if err := t.assign(inner, values[i]); err != nil {
			return err
		}
	}
	return inner.runAll(s.body)
}

func (s *filterStatement) run(f *frame) error {
	text, err := f.captured(s.body)
	if err != nil {
		return err
	}
	v, err := f.applied(s.filter, text)
	if err != nil {
		return err
	}
	written, ok := textOf(v)
	if !ok {
		return errorf("a filter block ends in a text, and this is a %s", typeName(v))
	}
	return f.write(written)
}

func (s *callStatement) run(f *frame) error {
	of, err := f.value(s.call.of)
	if err != nil {
		return err
	}
	args, named, err := f.arguments(s.call.args)
	if err != nil {
		return err
	}
	caller := any(&macroValue{macro: s.caller, scope: f.scope, path: f.r.path})
	if _, isHosts := of.(*Object); isHosts { // functions of the host's call functions
		body := caller
		caller = &Object{Call: func(args []any, named *Dict) (any, error) { return f.r.call(body, args, named, s.line()) }}
	}
	_ = named.Set("caller", caller)
	v, err := f.r.call(of, args, named, s.call.line())
	if err != nil {
		return err
	}
	text, err := str(v)
	if err != nil {
		return err
	}
	return f.write(text)
}

func (s *macroStatement) run(*frame) error {
	return errorf("dbt finds macros in the folder macros alone: move the macro %s there", s.macro.name)
}
