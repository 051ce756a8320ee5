package jinja

import (
	"slices"
	"strings"
)

// ignored are blocks of dbt's that hold nothing for us.
var ignored = []string{"materialization", "snapshot", "docs"}

// refused are blocks of Jinja's that dbt has no files for.
var refused = map[string]string{
	"include":    "a template cannot take in another: write a macro, which all templates can call",
	"import":     "the macros of all files are available without importing them: remove it",
	"from":       "the macros of all files are available without importing them: remove it",
	"extends":    "a template cannot extend another: write a macro, which all templates can call",
	"block":      "a template cannot extend another: write a macro, which all templates can call",
	"autoescape": "nothing is escaped in SQL: remove it",
	"trans":      "there are no translations: write the text",
	"pluralize":  "there are no translations: write the text",
	"debug":      "the block debug writes all that is known: use log",
}

// body reads statements up to a tag of one of the names, or the end of the file.
func (p *parser) body(ends ...string) ([]statement, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var statements []statement
	for {
		t := p.current()
		switch t.kind { //nolint:exhaustive // the others are inside of braces
		case endToken:
			if len(ends) > 0 {
				return nil, errorf("the block is not closed: add {%% %s %%}", ends[len(ends)-1])
			}
			return statements, nil
		case dataToken:
			p.next()
			statements = append(statements, &data{pos(t.line), t.text})
		case openVariable:
			p.next()
			e, err := p.tuple(tupleRules{conditions: true})
			if err != nil {
				return nil, err
			}
			if p.current().kind != closeVariable {
				return nil, p.fail("%s is not expected here: add }} or an operator", p.described())
			}
			p.next()
			statements = append(statements, &output{pos(t.line), []expr{e}})
		case openBlock:
			if p.tokens[p.at+1].kind == nameToken && slices.Contains(ends, p.tokens[p.at+1].text) {
				p.next()
				return statements, nil
			}
			p.next()
			s, err := p.statement()
			if err != nil {
				return nil, at(t.line, err)
			}
			if s != nil {
				statements = append(statements, s)
			}
		default:
			return nil, p.fail("%s is not expected here", p.described())
		}
	}
}

// blockBody reads the end of a tag, and statements up to one of the names.
func (p *parser) blockBody(ends ...string) ([]statement, error) {
	p.skipOperator(":")
	if err := p.closeBlock(); err != nil {
		return nil, err
	}
	return p.body(ends...)
}

// lastBody is blockBody, and passes over the tag that ends the block.
func (p *parser) lastBody(end string) ([]statement, error) {
	statements, err := p.blockBody(end)
	if err != nil {
		return nil, err
	}
	p.next()
	return statements, p.closeBlock()
}

func (p *parser) closeBlock() error {
	if p.current().kind != closeBlock {
		return p.fail("%s is not expected here: add %%} or an operator", p.described())
	}
	p.next()
	return nil
}

// apart reads what is a function of its own: no loop around it can be left in it.
func (p *parser) apart(read func() error) error {
	loops := p.loops
	p.loops = 0
	defer func() { p.loops = loops }()
	return read()
}

func (p *parser) statement() (statement, error) {
	t := p.next()
	if t.kind != nameToken {
		return nil, at(t.line, errorf("the name of a block is missing"))
	}
	line := pos(t.line)
	switch t.text {
	case "if":
		return p.ifStatement(line)
	case "for":
		return p.forStatement(line)
	case "set":
		return p.setStatement(line)
	case "do":
		e, err := p.tuple(tupleRules{conditions: true})
		if err != nil {
			return nil, err
		}
		return &do{line, e}, p.closeBlock()
	case "print":
		return p.printStatement(line)
	case "with":
		return p.withStatement(line)
	case "filter":
		return p.filterStatement(line)
	case "call":
		return p.callStatement(line)
	case "macro":
		return p.macroStatement(line, "macro", "")
	case "test", "data_test":
		return p.macroStatement(line, t.text, "test_")
	case "break", "continue":
		if p.loops == 0 {
			return nil, errorf("%s works inside of a for", t.text)
		}
		return &leave{line, t.text}, p.closeBlock()
	}
	if slices.Contains(ignored, t.text) {
		return nil, p.passOver(t.text)
	}
	if why, ok := refused[t.text]; ok {
		return nil, errorf("the block %q is not supported: %s", t.text, why)
	}
	if strings.HasPrefix(t.text, "end") || t.text == "else" || t.text == "elif" {
		return nil, errorf("%s belongs to no block here", t.text)
	}
	return nil, errorf("there is no block %q", t.text)
}

// passOver goes to the end of a block that is for dbt alone.
func (p *parser) passOver(name string) error {
	for {
		switch t := p.next(); {
		case t.kind == endToken:
			return errorf("the block is not closed: add {%% end%s %%}", name)
		case t.kind == openBlock && p.skipName("end"+name):
			return p.closeBlock()
		}
	}
}

func (p *parser) ifStatement(line pos) (statement, error) {
	s := &ifStatement{pos: line}
	for {
		test, err := p.tuple(tupleRules{})
		if err != nil {
			return nil, err
		}
		statements, err := p.blockBody("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.branches = append(s.branches, branch{test, statements})
		switch tag := p.next().text; tag {
		case "elif":
			continue
		case "else":
			s.otherwise, err = p.lastBody("endif")
			return s, err
		}
		return s, p.closeBlock()
	}
}

func (p *parser) forStatement(line pos) (statement, error) {
	s := &forStatement{pos: line}
	var err error
	if s.target, err = p.target("in"); err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.fail("in is missing before %s", p.described())
	}
	if s.over, err = p.tuple(tupleRules{end: "recursive"}); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if s.test, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.name("recursive") {
		return nil, p.fail("a recursive loop is not supported: write a macro that calls itself")
	}
	p.loops++
	s.body, err = p.blockBody("else", "endfor")
	p.loops--
	if err != nil {
		return nil, err
	}
	if sets(s.body, "loop") || s.target.names("loop") {
		return nil, errorf("loop has a meaning inside of a for, and cannot be set")
	}
	if p.next().text == "else" {
		s.otherwise, err = p.lastBody("endfor")
		return s, err
	}
	return s, p.closeBlock()
}

// sets tells whether statements set a name in their own scope.
func sets(statements []statement, name string) bool {
	for _, s := range statements {
		switch s := s.(type) {
		case *set:
			if s.target.names(name) {
				return true
			}
		case *ifStatement:
			if sets(s.otherwise, name) || slices.ContainsFunc(s.branches, func(b branch) bool { return sets(b.body, name) }) {
				return true
			}
		}
	}
	return false
}

// target reads what is set: a name, an attribute of a namespace, or several.
func (p *parser) target(end string) (*target, error) {
	if p.current().kind == nameToken && p.tokens[p.at+1].kind == operatorToken && p.tokens[p.at+1].text == "." && end == "" {
		t := p.next()
		p.next()
		name := p.next()
		if name.kind != nameToken {
			return nil, at(t.line, errorf("a name is missing after the dot"))
		}
		return &target{name: t.text, attribute: name.text}, nil
	}
	e, err := p.tuple(tupleRules{targets: true, end: end})
	if err != nil {
		return nil, err
	}
	return targetOf(e)
}

func targetOf(e expr) (*target, error) {
	switch e := e.(type) {
	case *variable:
		return &target{name: e.name}, nil
	case *tupleLiteral:
		all := &target{}
		for _, item := range e.items {
			one, err := targetOf(item)
			if err != nil {
				return nil, err
			}
			all.parts = append(all.parts, one)
		}
		return all, nil
	}
	return nil, at(e.line(), errorf("only a name can be set"))
}

func (p *parser) setStatement(line pos) (statement, error) {
	s := &set{pos: line}
	var err error
	if s.target, err = p.target(""); err != nil {
		return nil, err
	}
	if p.skipOperator("=") {
		if s.value, err = p.tuple(tupleRules{conditions: true}); err != nil {
			return nil, err
		}
		return s, p.closeBlock()
	}
	if s.target.parts != nil {
		return nil, p.fail("= is missing before %s", p.described())
	}
	if p.operator("|") {
		if s.filter, err = p.filtered(&constant{pos: line}); err != nil {
			return nil, err
		}
	}
	err = p.apart(func() error {
		s.body, err = p.lastBody("endset")
		return err
	})
	if s.body == nil {
		s.body = []statement{}
	}
	return s, err
}

func (p *parser) printStatement(line pos) (statement, error) {
	s := &output{pos: line}
	for p.current().kind != closeBlock {
		if len(s.parts) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.parts = append(s.parts, e)
	}
	return s, p.closeBlock()
}

func (p *parser) withStatement(line pos) (statement, error) {
	s := &with{pos: line}
	for p.current().kind != closeBlock {
		if len(s.targets) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		t, err := targetOf(e)
		if err != nil {
			return nil, err
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, t), append(s.values, value)
	}
	var err error
	s.body, err = p.lastBody("endwith")
	return s, err
}

func (p *parser) filterStatement(line pos) (statement, error) {
	e, err := p.filterNamed(int(line), &constant{pos: line})
	if err != nil {
		return nil, err
	}
	s := &filterStatement{pos: line}
	if s.filter, err = p.filtered(e); err != nil {
		return nil, err
	}
	err = p.apart(func() error {
		s.body, err = p.lastBody("endfilter")
		return err
	})
	return s, err
}

func (p *parser) callStatement(line pos) (statement, error) {
	s := &callStatement{pos: line, caller: &macro{line: int(line), name: "caller"}}
	var err error
	if p.operator("(") {
		if err := p.signature(s.caller); err != nil {
			return nil, err
		}
	}
	e, err := p.expression()
	if err != nil {
		return nil, err
	}
	called, ok := e.(*call)
	if !ok {
		return nil, errorf("a call block calls a macro, as in {%% call m() %%}")
	}
	s.call = called
	err = p.apart(func() error {
		s.caller.body, err = p.lastBody("endcall")
		return err
	})
	s.caller.settle()
	return s, err
}

// macroStatement reads a macro, or a test, which is one with a prefix.
func (p *parser) macroStatement(line pos, block, prefix string) (statement, error) {
	t := p.next()
	if t.kind != nameToken {
		return nil, errorf("the name of the %s is missing", block)
	}
	m := &macro{line: int(line), name: prefix + t.text}
	if err := p.signature(m); err != nil {
		return nil, err
	}
	err := p.apart(func() (err error) {
		m.body, err = p.lastBody("end" + block)
		return err
	})
	m.settle()
	return &macroStatement{line, m}, err
}

// signature reads a macro's parameters, with their defaults and dbt's types.
func (p *parser) signature(m *macro) error {
	if err := p.expect("("); err != nil {
		return err
	}
	for !p.operator(")") {
		if len(m.parameters) > 0 {
			if err := p.expect(","); err != nil {
				return err
			}
		}
		t := p.next()
		if _, isConstant := constants[t.text]; t.kind != nameToken || isConstant {
			return at(t.line, errorf("the name of a parameter is missing"))
		}
		if slices.ContainsFunc(m.parameters, func(other parameter) bool { return other.name == t.text }) {
			return at(t.line, errorf("two parameters are called %s", t.text))
		}
		one := parameter{name: t.text}
		if p.skipOperator(":") {
			if err := p.typeName(); err != nil {
				return err
			}
		}
		if p.skipOperator("=") {
			var err error
			if one.otherwise, err = p.expression(); err != nil {
				return err
			}
		} else if len(m.parameters) > 0 && m.parameters[len(m.parameters)-1].otherwise != nil {
			return p.fail("a parameter without a default follows one that has one")
		}
		m.parameters = append(m.parameters, one)
	}
	return p.expect(")")
}

// typeName passes over the type of a parameter, which is for dbt's checks.
func (p *parser) typeName() error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	if t := p.next(); t.kind != nameToken {
		return at(t.line, errorf("the type of a parameter is missing"))
	}
	if !p.skipOperator("[") {
		return nil
	}
	for first := true; !p.operator("]"); first = false {
		if !first {
			if err := p.expect(","); err != nil {
				return err
			}
		}
		if err := p.typeName(); err != nil {
			return err
		}
	}
	return p.expect("]")
}
