package runner

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// SelectionError says that a selector is wrong, or names what there is not.
type SelectionError struct{ Selector, Reason string }

func (e *SelectionError) Error() string { return fmt.Sprintf("select %q: %s", e.Selector, e.Reason) }

// Indirect says which tests are selected that a selector does not name, by the
// nodes that they read, as dbt's --indirect-selection does.
type Indirect string

// The modes.
const (
	Eager     Indirect = "eager"     // tests that read any selected node; the default
	Buildable Indirect = "buildable" // tests that read nothing but selected nodes and what these depend on
	Cautious  Indirect = "cautious"  // tests that read nothing but selected nodes
	Empty     Indirect = "empty"     // none
)

// Indirects lists the modes.
func Indirects() []Indirect { return []Indirect{Eager, Buildable, Cautious, Empty} }

// selection is a set of names: of nodes, and of sources as "source.table".
type selection map[string]bool

// pick evaluates a selector, without what Options.Exclude names. A selector is
// dbt's: criteria with spaces between are a union, with commas an
// intersection. Empty means everything.
func (p *Project) pick(selector string) (selection, error) {
	q := query{p}
	picked, err := q.union(cmp.Or(strings.TrimSpace(selector), "*"))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(p.options.Exclude) != "" {
		without, err := q.union(p.options.Exclude)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(picked.sure, func(name string, _ bool) bool { return without.sure[name] })
	}
	if p.only != nil {
		maps.DeleteFunc(picked.sure, func(name string, _ bool) bool { return !p.only[name] })
	}
	return picked.sure, nil
}

// query evaluates selectors over a project.
type query struct{ *Project }

// found is what a part of a selector picks, and the tests beside it that it
// would pick if more of what they read were picked.
type found struct{ sure, perhaps selection }

func (q query) union(selector string) (found, error) {
	all := found{selection{}, selection{}}
	for word := range strings.FieldsSeq(selector) {
		part, err := q.intersection(word)
		if err != nil {
			return found{}, err
		}
		maps.Copy(all.sure, part.sure)
		maps.Copy(all.perhaps, part.perhaps)
	}
	q.settle(&all)
	return all, nil
}

func (q query) intersection(word string) (found, error) {
	var all found
	for i, text := range strings.Split(word, ",") {
		c, err := parseCriterion(text)
		if err != nil {
			return found{}, err
		}
		part, err := q.evaluate(c)
		if err != nil {
			return found{}, err
		}
		if i == 0 {
			all = part
			continue
		}
		maps.DeleteFunc(all.sure, func(name string, _ bool) bool { return !part.sure[name] })
		maps.DeleteFunc(all.perhaps, func(name string, _ bool) bool { return !part.sure[name] && !part.perhaps[name] })
	}
	q.settle(&all)
	return all, nil
}

// settle picks tests that have become sure, now that more is picked.
func (q query) settle(all *found) {
	added := q.tests(all.sure, maps.Keys(all.perhaps))
	if q.options.Indirect == Eager || q.options.Indirect == "" {
		return // whatever it adds is sure at once
	}
	maps.Copy(all.sure, added.sure)
}

// evaluate finds what one criterion picks.
func (q query) evaluate(c criterion) (found, error) {
	matched, err := q.match(c)
	if err != nil {
		return found{}, err
	}
	if len(matched) == 0 && !c.mayBeNothing() {
		return found{}, &SelectionError{c.text, "nothing matches: `sluis models ls` lists what there is"}
	}
	picked := maps.Clone(matched)
	if c.childrensParents {
		below := q.reach(matched, math.MaxInt, q.children())
		maps.Copy(below, matched)
		maps.Copy(picked, below)
		maps.Copy(picked, q.reach(below, math.MaxInt, q.parents))
	}
	maps.Copy(picked, q.reach(matched, c.above, q.parents))
	maps.Copy(picked, q.reach(matched, c.below, q.children()))
	all := q.tests(picked, maps.Keys(q.nodes))
	maps.Copy(all.sure, picked)
	return all, nil
}

// tests finds, among names, tests that a selection picks by what they read.
func (q query) tests(picked selection, names func(func(string) bool)) found {
	all := found{selection{}, selection{}}
	enough := picked
	if q.options.Indirect == Buildable {
		enough = q.reach(picked, math.MaxInt, q.parents)
		maps.Copy(enough, picked)
		for name := range q.sources {
			enough[name] = true
		}
	}
	for name := range names {
		node := q.nodes[name]
		if node == nil || node.Kind != Test || picked[name] || q.options.Indirect == Empty {
			continue
		}
		reads := q.parents(name)
		about := func(name string) bool { return picked[name] }
		switch {
		case !slices.ContainsFunc(reads, about):
		case q.options.Indirect == Eager || q.options.Indirect == "",
			!slices.ContainsFunc(reads, func(name string) bool { return !enough[name] }):
			all.sure[name] = true
		default:
			all.perhaps[name] = true
		}
	}
	return all
}

// parents lists what a node reads, or nothing for a source.
func (q query) parents(name string) []string {
	node := q.nodes[name]
	if node == nil {
		return nil
	}
	return slices.Concat(node.DependsOn, node.sources)
}

// children returns what tells who reads a node or a source.
func (q query) children() func(name string) []string {
	readers := map[string][]string{}
	for name := range q.nodes {
		for _, on := range q.parents(name) {
			readers[on] = append(readers[on], name)
		}
	}
	return func(name string) []string { return readers[name] }
}

// reach follows steps from a selection, at most so many. What it began with is
// not in the result, unless it was reached.
func (q query) reach(from selection, steps int, next func(string) []string) selection {
	reached := selection{}
	edge := slices.Collect(maps.Keys(from))
	for ; steps > 0 && len(edge) > 0; steps-- {
		var beyond []string
		for _, name := range edge {
			for _, other := range next(name) {
				if !reached[other] {
					reached[other] = true
					beyond = append(beyond, other)
				}
			}
		}
		edge = beyond
	}
	return reached
}

// criterion is a selector without spaces and commas, such as 2+tag:nightly+.
type criterion struct {
	text             string
	method, argument string // of config.materialized:view, config and materialized
	value            string
	childrensParents bool // @
	above, below     int  // how many steps of what it depends on, and of what depends on it
}

var criterionText = regexp.MustCompile(`^(@)?((\d*)\+)?(?:([\w.]+):)?(.*?)(\+(\d*))?$`)

func parseCriterion(text string) (criterion, error) {
	wrong := func(format string, args ...any) (criterion, error) {
		return criterion{}, &SelectionError{text, fmt.Sprintf(format, args...)}
	}
	m := criterionText.FindStringSubmatch(text)
	c := criterion{text: text, childrensParents: m[1] != "", value: m[5], above: steps(m[2], m[3]), below: steps(m[6], m[7])}
	c.method, c.argument, _ = strings.Cut(m[4], ".")
	switch {
	case c.value == "":
		return wrong("there is no name in it: write a name, or a method and a value, such as tag:audience")
	case c.childrensParents && c.below > 0:
		return wrong("@ before a name has what depends on it already: leave out the + after it")
	case c.method == "":
		c.method = defaultMethod(c.value)
	case methods[c.method] == nil:
		return wrong("unknown method %q: use %s", c.method, strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
	}
	return c, nil
}

// steps reads a plus with a number of steps.
func steps(plus, number string) int {
	if plus == "" {
		return 0
	}
	if n, err := strconv.Atoi(number); err == nil {
		return n
	}
	return math.MaxInt
}

// defaultMethod is what a value without a method is taken for.
func defaultMethod(value string) string {
	switch {
	case strings.Contains(value, "/"):
		return "path"
	case strings.HasSuffix(value, ".sql"), strings.HasSuffix(value, ".csv"):
		return "file"
	}
	return "fqn"
}

// mayBeNothing tells that it is no mistake if nothing matches now.
func (c criterion) mayBeNothing() bool {
	return slices.Contains([]string{"state", "result", "source_status"}, c.method) || c.value == "*"
}

// candidate is what a selector can pick: a node, or else a source.
type candidate struct {
	name   string
	node   *Node
	source *source
}

// methods find out whether a candidate matches a criterion.
var methods = map[string]func(query, criterion) (func(candidate) bool, error){
	"fqn":           matchName,
	"tag":           ofNode(func(c criterion, n *Node) bool { return slices.ContainsFunc(n.Tags, glob(c.value)) }),
	"path":          matchPath,
	"file":          matchFile,
	"source":        matchSource,
	"package":       matchPackage,
	"config":        matchConfig,
	"group":         ofNode(func(c criterion, n *Node) bool { return glob(c.value)(n.config.text("group")) }),
	"access":        ofNode(func(c criterion, n *Node) bool { return n.Kind == Model && n.access() == c.value }),
	"resource_type": matchKind,
	"test_type":     matchTestType,
	"test_name":     ofNode(func(c criterion, n *Node) bool { return n.isGenericTest() && glob(c.value)(n.test.generic) }),
	"unit_test":     ofNode(func(c criterion, n *Node) bool { return n.isUnitTest() && glob(c.value)(n.Name) }),
	"state":         matchState,
	"result":        matchResult,
	"source_status": matchSourceStatus,
}

// ofNode makes a method of what a criterion says of a node alone.
func ofNode(matches func(criterion, *Node) bool) func(query, criterion) (func(candidate) bool, error) {
	return func(_ query, c criterion) (func(candidate) bool, error) {
		return func(of candidate) bool { return of.node != nil && matches(c, of.node) }, nil
	}
}

// match finds what a criterion is about, without its neighbours.
func (q query) match(c criterion) (selection, error) {
	matches, err := methods[c.method](q, c)
	if err != nil {
		if _, ok := errors.AsType[*SelectionError](err); ok {
			return nil, err
		}
		return nil, &SelectionError{c.text, err.Error()}
	}
	matched := selection{}
	for name, node := range q.nodes {
		if matches(candidate{name: name, node: node}) {
			matched[name] = true
		}
	}
	for name, source := range q.sources {
		if matches(candidate{name: name, source: &source}) {
			matched[name] = true
		}
	}
	return matched, nil
}

func (of candidate) isTest() bool { return of.node != nil && of.node.Kind == Test }

// file is where the candidate is defined.
func (of candidate) file() string {
	if of.node != nil {
		return of.node.Path
	}
	return of.source.path
}

// matchName matches names, and names with their folders: audiences.*, or
// sluis.audiences.lapsed_customers.
func matchName(q query, c criterion) (func(candidate) bool, error) {
	leaf := glob(c.value)
	return func(of candidate) bool {
		if of.node == nil {
			return false
		}
		fqn := q.fqn(of.node)
		return leaf(fqn[len(fqn)-1]) || underName(fqn, c.value) || underName(fqn[1:], c.value)
	}, nil
}

// underName tells whether a name begins with the parts of another, the last of
// which may have wildcards.
func underName(fqn []string, value string) bool {
	parts := strings.Split(value, ".")
	fqn = strings.Split(strings.Join(fqn, "."), ".") // names of tests may have dots
	if len(fqn) < len(parts) {
		return false
	}
	for i, part := range parts {
		if strings.ContainsAny(part, "*?[]") {
			return glob(strings.Join(parts[i:], "."))(strings.Join(fqn[i:], "."))
		}
		if part != fqn[i] {
			return false
		}
	}
	return true
}

// matchPath matches a file or all below a folder; also the file of YAML that
// describes a node.
func matchPath(_ query, c criterion) (func(candidate) bool, error) {
	pattern := strings.Split(path.Clean(c.value), "/")
	return func(of candidate) bool {
		for at := of.file(); at != "." && at != "/"; at = path.Dir(at) {
			if matchParts(pattern, strings.Split(at, "/")) {
				return true
			}
		}
		return of.node != nil && of.node.describedIn != "" && matchParts(pattern, strings.Split(of.node.describedIn, "/"))
	}, nil
}

// matchParts matches the parts of a path; ** stands for any number of folders.
func matchParts(pattern, parts []string) bool {
	if len(pattern) == 0 {
		return len(parts) == 0
	}
	if pattern[0] == "**" {
		return matchParts(pattern[1:], parts) || len(parts) > 0 && matchParts(pattern, parts[1:])
	}
	return len(parts) > 0 && glob(pattern[0])(parts[0]) && matchParts(pattern[1:], parts[1:])
}

func matchFile(_ query, c criterion) (func(candidate) bool, error) {
	matches := glob(c.value)
	return func(of candidate) bool {
		base := path.Base(of.file())
		return matches(base) || matches(strings.TrimSuffix(base, path.Ext(base)))
	}, nil
}

// matchPackage matches all: a project here has no packages beside itself.
func matchPackage(q query, c criterion) (func(candidate) bool, error) {
	return func(candidate) bool { return c.value == "this" || glob(c.value)(q.name) }, nil
}

func matchSource(q query, c criterion) (func(candidate) bool, error) {
	parts := strings.Split(c.value, ".")
	switch len(parts) {
	case 1:
		parts = []string{"*", parts[0], "*"}
	case 2:
		parts = []string{"*", parts[0], parts[1]}
	case 3:
	default:
		return nil, errors.New("a source is written as source:NAME or source:NAME.TABLE")
	}
	return func(of candidate) bool {
		if of.source == nil {
			return false
		}
		name, table, _ := strings.Cut(of.name, ".")
		return glob(parts[0])(q.name) && glob(parts[1])(name) && glob(parts[2])(table)
	}, nil
}

func matchKind(_ query, c criterion) (func(candidate) bool, error) {
	kinds := []string{string(Model), string(Seed), string(Test), "unit_test", "source"}
	if !slices.Contains(kinds, c.value) {
		return nil, fmt.Errorf("there are none of this type: it may be %s", strings.Join(kinds, ", "))
	}
	return func(of candidate) bool {
		switch {
		case of.node == nil:
			return c.value == "source"
		case of.node.isUnitTest():
			return c.value == "unit_test"
		}
		return string(of.node.Kind) == c.value
	}, nil
}

func matchTestType(_ query, c criterion) (func(candidate) bool, error) {
	var generic, singular, unit bool
	switch c.value {
	case "unit":
		unit = true
	case "generic", "schema":
		generic = true
	case "singular":
		singular = true
	case "data":
		generic, singular = true, true
	default:
		return nil, errors.New("the type of a test is generic, singular, data or unit")
	}
	return func(of candidate) bool {
		if !of.isTest() || of.node.isUnitTest() {
			return of.isTest() && unit
		}
		return generic && of.node.test.generic != "" || singular && of.node.test.generic == ""
	}, nil
}

// matchConfig matches a value of a node's config, which may be below others:
// config.meta.audience.purpose:marketing.
func matchConfig(_ query, c criterion) (func(candidate) bool, error) {
	if c.argument == "" {
		return nil, errors.New("say which config, as in config.materialized:incremental")
	}
	return func(of candidate) bool {
		var value any
		if of.node != nil {
			value = map[string]any(of.node.fullConfig())
		} else {
			value = of.source.fullConfig(dialects[0])
		}
		for key := range strings.SplitSeq(c.argument, ".") {
			m, ok := value.(map[string]any)
			if !ok {
				return false
			}
			if value, ok = m[key]; !ok {
				return false
			}
		}
		return isValue(value, c.value, c.argument == "severity")
	}, nil
}

// isValue tells whether a value, or one of a list, is written so.
func isValue(value any, text string, anyCase bool) bool {
	switch v := value.(type) {
	case nil, map[string]any:
		return false
	case bool:
		return strings.EqualFold(text, strconv.FormatBool(v))
	case []string, []any:
		return slices.ContainsFunc(anys(v), func(element any) bool { return isValue(element, text, anyCase) })
	}
	return fmt.Sprint(value) == text || anyCase && strings.EqualFold(fmt.Sprint(value), text)
}

func anys(list any) []any {
	if texts, ok := list.([]string); ok {
		all := make([]any, len(texts))
		for i, text := range texts {
			all[i] = text
		}
		return all
	}
	all, _ := list.([]any)
	return all
}

// glob matches as Python's fnmatch does, which dbt uses: * is any text, also
// with dots and slashes.
func glob(pattern string) func(text string) bool {
	if !strings.ContainsAny(pattern, "*?[") {
		return func(text string) bool { return text == pattern }
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			end := strings.IndexByte(pattern[min(i+2, len(pattern)):], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			set := pattern[i+1 : i+2+end]
			if rest, not := strings.CutPrefix(set, "!"); not {
				set = "^" + rest
			}
			b.WriteString("[" + strings.ReplaceAll(set, `\`, `\\`) + "]")
			i += 2 + end
		default:
			end := i + strings.IndexAny(pattern[i:]+"*", "*?[")
			b.WriteString(regexp.QuoteMeta(pattern[i:end]))
			i = end - 1
		}
	}
	re, err := regexp.Compile("(?s)^(?:" + b.String() + ")$")
	if err != nil {
		return func(string) bool { return false } // such as the range z-a, which holds nothing
	}
	return re.MatchString
}

// List returns the nodes that a selector picks, each after those it depends on.
func (p *Project) List(selector string) ([]Node, error) {
	picked, err := p.pick(selector)
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, name := range p.order {
		if picked[name] {
			nodes = append(nodes, *p.nodes[name])
		}
	}
	return nodes, nil
}

// Select returns the unique ids of what a selector picks, sources among it.
func (p *Project) Select(selector string) ([]string, error) {
	picked, err := p.pick(selector)
	if err != nil {
		return nil, err
	}
	var ids []string
	for name := range picked {
		if node, ok := p.nodes[name]; ok {
			ids = append(ids, p.uniqueID(node))
		} else {
			ids = append(ids, p.sourceID(name))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Compiled is a node's query as the warehouse gets it.
type Compiled struct {
	Name, Path, SQL string
}

// Compile renders the selected models and tests for a dialect. It needs no
// warehouse; incremental models come as for their first run.
func (p *Project) Compile(dialect, selector string) ([]Compiled, error) {
	picked, err := p.pick(selector)
	if err != nil {
		return nil, err
	}
	var compiled []Compiled
	for _, name := range p.order {
		node := p.nodes[name]
		if !picked[name] || node.Kind == Seed || node.isUnitTest() {
			continue // those have no query of their own
		}
		text, err := p.compile(node, occasion{dialect: dialect})
		if err != nil {
			return nil, fmt.Errorf("compile %s: %w", name, err)
		}
		compiled = append(compiled, Compiled{name, node.Path, text})
	}
	return compiled, nil
}

// Keep writes compiled SQL to the target folder, as a run does.
func (p *Project) Keep(compiled []Compiled) error {
	for _, c := range compiled {
		if err := p.keep(p.nodes[c.Name], c.SQL); err != nil {
			return err
		}
	}
	return nil
}

func (p *Project) compile(node *Node, o occasion) (string, error) {
	if node.template == nil {
		return node.test.query(o.dialect)
	}
	return scope{occasion: o, project: p, node: node}.compile()
}
