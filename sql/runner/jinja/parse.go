package jinja

import (
	"slices"
	"strings"
)

// maxParsing bounds how deep the constructs of a template may be in each other.
const maxParsing = 200

type parser struct {
	tokens []token
	at     int
	depth  int
	loops  int // loops that break and continue may mean
}

func (p *parser) current() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.kind != endToken {
		p.at++
	}
	return t
}

func (p *parser) is(kind tokenKind, text string) bool {
	t := p.current()
	return t.kind == kind && t.text == text
}

func (p *parser) name(text string) bool     { return p.is(nameToken, text) }
func (p *parser) operator(text string) bool { return p.is(operatorToken, text) }

func (p *parser) skip(kind tokenKind, text string) bool {
	if p.is(kind, text) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipName(text string) bool     { return p.skip(nameToken, text) }
func (p *parser) skipOperator(text string) bool { return p.skip(operatorToken, text) }

func (p *parser) fail(format string, args ...any) error {
	return at(p.current().line, errorf(format, args...))
}

func (p *parser) expect(text string) error {
	if !p.skipOperator(text) {
		return p.fail("%s is missing before %s", text, p.described())
	}
	return nil
}

func (p *parser) described() string {
	switch t := p.current(); t.kind {
	case endToken:
		return "the end of the file"
	case stringToken:
		return quoted(t.text)
	case dataToken:
		return "the text"
	case openVariable, closeVariable, openBlock, closeBlock, nameToken, intToken, floatToken, operatorToken:
		return t.text
	}
	return ""
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxParsing {
		return p.fail("the template is nested too deeply: more than %d levels", maxParsing)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expression reads a whole expression: a condition, if it is one.
func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.name("if") {
		line := p.next().line
		test, err := p.or()
		if err != nil {
			return nil, err
		}
		var otherwise expr
		if p.skipName("else") {
			if otherwise, err = p.expression(); err != nil {
				return nil, err
			}
		}
		e = &condition{pos(line), e, test, otherwise}
	}
	return e, nil
}

func (p *parser) or() (expr, error) {
	return p.chain(p.and, func() bool { return p.name("or") }, func(line int, op string, a, b expr) expr { return &logic{pos(line), op, a, b} })
}

func (p *parser) and() (expr, error) {
	return p.chain(p.not, func() bool { return p.name("and") }, func(line int, op string, a, b expr) expr { return &logic{pos(line), op, a, b} })
}

// chain reads operands of operators that bind to the left.
func (p *parser) chain(operand func() (expr, error), more func() bool, join func(line int, op string, a, b expr) expr) (expr, error) {
	left, err := operand()
	if err != nil {
		return nil, err
	}
	for n := 0; more(); n++ {
		if n > maxChain {
			return nil, p.fail("the expression is too long: more than %d operators", maxChain)
		}
		op := p.next()
		right, err := operand()
		if err != nil {
			return nil, err
		}
		left = join(op.line, op.text, left, right)
	}
	return left, nil
}

const maxChain = 10_000

func (p *parser) not() (expr, error) {
	if !p.name("not") {
		return p.comparison()
	}
	line := p.next().line
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	e, err := p.not()
	if err != nil {
		return nil, err
	}
	return &negation{pos(line), e}, nil
}

var comparisons = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) comparison() (expr, error) {
	line := p.current().line
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	chained := &comparison{pos: pos(line), first: first}
	for {
		op := ""
		switch t := p.current(); {
		case t.kind == operatorToken && slices.Contains(comparisons, t.text):
			op = p.next().text
		case p.name("in"):
			op = p.next().text
		case p.name("not") && p.tokens[p.at+1].kind == nameToken && p.tokens[p.at+1].text == "in":
			p.next()
			p.next()
			op = "not in"
		default:
			if len(chained.ops) == 0 {
				return first, nil
			}
			return chained, nil
		}
		operand, err := p.sum()
		if err != nil {
			return nil, err
		}
		chained.ops, chained.operands = append(chained.ops, op), append(chained.operands, operand)
	}
}

func arithmeticOf(line int, op string, a, b expr) expr { return &arithmetic{pos(line), op, a, b} }

func (p *parser) isOneOf(texts ...string) func() bool {
	return func() bool { return p.current().kind == operatorToken && slices.Contains(texts, p.current().text) }
}

func (p *parser) sum() (expr, error) { return p.chain(p.joined, p.isOneOf("+", "-"), arithmeticOf) }

func (p *parser) joined() (expr, error) {
	line := p.current().line
	first, err := p.product()
	if err != nil || !p.operator("~") {
		return first, err
	}
	parts := []expr{first}
	for p.skipOperator("~") {
		part, err := p.product()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return &concatenation{pos(line), parts}, nil
}

func (p *parser) product() (expr, error) {
	return p.chain(p.power, p.isOneOf("*", "/", "//", "%"), arithmeticOf)
}

func (p *parser) power() (expr, error) {
	return p.chain(func() (expr, error) { return p.unary(true) }, p.isOneOf("**"), arithmeticOf)
}

func (p *parser) unary(filters bool) (expr, error) {
	var e expr
	var err error
	if p.operator("-") || p.operator("+") {
		op := p.next()
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		if e, err = p.unary(false); err != nil {
			return nil, err
		}
		e = &sign{pos(op.line), op.text, e}
	} else if e, err = p.primary(); err != nil {
		return nil, err
	}
	if e, err = p.postfix(e); err != nil || !filters {
		return e, err
	}
	return p.filtered(e)
}

var constants = map[string]any{"true": true, "True": true, "false": false, "False": false, "none": nil, "None": nil}

func (p *parser) primary() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	t := p.current()
	switch {
	case t.kind == nameToken:
		p.next()
		if value, ok := constants[t.text]; ok {
			return &constant{pos(t.line), value}, nil
		}
		return &variable{pos(t.line), t.text}, nil
	case t.kind == stringToken:
		var text strings.Builder
		for p.current().kind == stringToken {
			text.WriteString(p.next().text)
		}
		return &constant{pos(t.line), text.String()}, nil
	case t.kind == intToken || t.kind == floatToken:
		p.next()
		return &constant{pos(t.line), t.value}, nil
	case p.skipOperator("("):
		e, err := p.tuple(tupleRules{conditions: true, parentheses: true})
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case p.skipOperator("["):
		items, err := p.items("]")
		return &listLiteral{pos(t.line), items}, err
	case p.skipOperator("{"):
		return p.dict(t.line)
	}
	return nil, p.fail("an expression is missing before %s", p.described())
}

// tupleRules say what may be in a tuple, and what ends it.
type tupleRules struct {
	targets     bool // names to be set alone
	conditions  bool
	parentheses bool
	end         string // a name
}

func (p *parser) tuple(rules tupleRules) (expr, error) {
	line := p.current().line
	read := p.expression
	switch {
	case rules.targets:
		read = p.primary
	case !rules.conditions:
		read = p.or
	}
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		if p.endsTuple(rules.end) {
			break
		}
		e, err := read()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
		if !p.operator(",") {
			break
		}
		isTuple = true
	}
	switch {
	case isTuple:
		return &tupleLiteral{pos(line), items}, nil
	case len(items) > 0:
		return items[0], nil
	case !rules.parentheses:
		return nil, p.fail("an expression is missing before %s", p.described())
	}
	return &tupleLiteral{pos(line), nil}, nil
}

func (p *parser) endsTuple(end string) bool {
	t := p.current()
	return t.kind == closeVariable || t.kind == closeBlock || p.operator(")") || end != "" && p.name(end)
}

func (p *parser) items(closer string) ([]expr, error) {
	var items []expr
	for !p.operator(closer) {
		if len(items) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.operator(closer) {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return items, p.expect(closer)
}

func (p *parser) dict(line int) (expr, error) {
	d := &dictLiteral{pos: pos(line)}
	for !p.operator("}") {
		if len(d.keys) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
			if p.operator("}") {
				break
			}
		}
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.expect(":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, key), append(d.values, value)
	}
	return d, p.expect("}")
}

func (p *parser) postfix(e expr) (expr, error) {
	for {
		var err error
		switch {
		case p.operator("."):
			e, err = p.attribute(e)
		case p.operator("["):
			e, err = p.subscript(e)
		case p.operator("("):
			e, err = p.called(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// filtered reads filters and tests behind an expression.
func (p *parser) filtered(e expr) (expr, error) {
	for {
		var err error
		switch {
		case p.operator("|"):
			e, err = p.filter(e)
		case p.name("is"):
			e, err = p.test(e)
		case p.operator("("):
			e, err = p.called(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) attribute(e expr) (expr, error) {
	line := p.next().line
	t := p.next()
	if t.kind == intToken {
		return &subscript{pos(line), e, &constant{pos(line), t.value}}, nil
	}
	if t.kind != nameToken {
		return nil, at(line, errorf("a name is missing after the dot"))
	}
	return &attribute{pos(line), e, t.text}, nil
}

func (p *parser) subscript(e expr) (expr, error) {
	line := p.next().line
	var parts []expr
	for !p.operator("]") {
		if len(parts) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		part, err := p.subscribed()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return nil, p.fail("what is wanted is missing between the brackets")
	}
	if err := p.expect("]"); err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		return &subscript{pos(line), e, parts[0]}, nil
	}
	return &subscript{pos(line), e, &tupleLiteral{pos(line), parts}}, nil
}

// subscribed reads a key, or the bounds of a slice.
func (p *parser) subscribed() (expr, error) {
	line := p.current().line
	bounds := &slicing{pos: pos(line)}
	if !p.operator(":") {
		e, err := p.expression()
		if err != nil || !p.operator(":") {
			return e, err
		}
		bounds.parts[0] = e
	}
	for i := 1; i < 3 && p.skipOperator(":"); i++ {
		if p.operator("]") || p.operator(",") || p.operator(":") {
			continue
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		bounds.parts[i] = e
	}
	return bounds, nil
}

func (p *parser) called(e expr) (expr, error) {
	line := p.current().line
	args, err := p.arguments()
	return &call{pos(line), e, args}, err
}

// arguments reads what is given to a call, with its parentheses.
func (p *parser) arguments() (arguments, error) {
	var args arguments
	if err := p.expect("("); err != nil {
		return args, err
	}
	for first := true; !p.operator(")"); first = false {
		if !first {
			if err := p.expect(","); err != nil {
				return args, err
			}
			if p.operator(")") {
				break
			}
		}
		if err := p.argument(&args); err != nil {
			return args, err
		}
	}
	return args, p.expect(")")
}

func (p *parser) argument(args *arguments) error {
	var err error
	misplaced := false
	switch {
	case p.operator("*"):
		p.next()
		misplaced = args.star != nil || args.starStar != nil
		args.star, err = p.expression()
	case p.operator("**"):
		p.next()
		misplaced = args.starStar != nil
		args.starStar, err = p.expression()
	case p.current().kind == nameToken && p.tokens[p.at+1].kind == operatorToken && p.tokens[p.at+1].text == "=":
		name := p.next().text
		p.next()
		if slices.Contains(args.names, name) {
			return p.fail("the argument %s is given twice: remove one", name)
		}
		misplaced = args.starStar != nil
		var value expr
		value, err = p.expression()
		args.names, args.named = append(args.names, name), append(args.named, value)
	default:
		misplaced = args.star != nil || args.starStar != nil || len(args.names) > 0
		var value expr
		value, err = p.expression()
		args.positional = append(args.positional, value)
	}
	if err == nil && misplaced {
		return p.fail("the arguments are out of order: first those without names, then *, then those with names, then **")
	}
	return err
}

func (p *parser) dotted() (string, error) {
	t := p.next()
	if t.kind != nameToken {
		return "", at(t.line, errorf("the name of a filter or test is missing"))
	}
	if p.operator(".") {
		return "", p.fail("there are no filters or tests with a dot in their name")
	}
	return t.text, nil
}

func (p *parser) filter(e expr) (expr, error) {
	line := p.next().line
	return p.filterNamed(line, e)
}

func (p *parser) filterNamed(line int, e expr) (expr, error) {
	name, err := p.dotted()
	if err != nil {
		return nil, err
	}
	f := &filter{pos: pos(line), name: name, operand: e}
	if err := knownFilter(name); err != nil {
		return nil, at(line, err)
	}
	if p.operator("(") {
		f.args, err = p.arguments()
	}
	return f, err
}

func (p *parser) test(e expr) (expr, error) {
	line := p.next().line
	negated := p.skipName("not")
	name, err := p.dotted()
	if err != nil {
		return nil, err
	}
	if err := knownTest(name); err != nil {
		return nil, at(line, err)
	}
	t := &test{pos: pos(line), name: name, operand: e}
	switch c := p.current(); {
	case p.operator("("):
		t.args, err = p.arguments()
	case p.name("is"):
		return nil, p.fail("tests cannot follow each other: join them with and")
	case c.kind == stringToken || c.kind == intToken || c.kind == floatToken || p.operator("[") || p.operator("{") ||
		c.kind == nameToken && c.text != "else" && c.text != "or" && c.text != "and":
		var argument expr
		if argument, err = p.primary(); err == nil {
			argument, err = p.postfix(argument)
		}
		t.args.positional = []expr{argument}
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return &negation{pos(line), t}, nil
	}
	return t, nil
}
