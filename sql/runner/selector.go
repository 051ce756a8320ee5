package runner

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// selection is a set of nodes' names.
type selection map[string]bool

// pick evaluates a selector: names (with * for any part), tag:NAME and
// path:FOLDER, joined by spaces; a plus before one adds what it depends on,
// after it what depends on it. Empty means everything.
func (p *Project) pick(selector string) (selection, error) {
	picked := selection{}
	words := strings.Fields(selector)
	if len(words) == 0 {
		for _, name := range p.order {
			picked[name] = true
		}
	}
	for _, word := range words {
		base, up := strings.CutPrefix(word, "+")
		base, down := strings.CutSuffix(base, "+")
		matched := p.match(base)
		if len(matched) == 0 {
			return nil, fmt.Errorf("select %q: nothing matches: give names of models, tag:NAME or path:FOLDER, with + before or after", word)
		}
		for _, name := range matched {
			picked[name] = true
			if up {
				p.above(name, picked)
			}
		}
		if down {
			p.below(matched, picked)
		}
	}
	return picked, nil
}

func (p *Project) match(base string) []string {
	var matched []string
	for _, name := range p.order {
		node := p.nodes[name]
		var ok bool
		switch method, value, found := strings.Cut(base, ":"); {
		case !found:
			ok, _ = path.Match(base, name) // a bad pattern matches nothing
		case method == "tag":
			ok = slices.Contains(node.Tags, value)
		case method == "path":
			value = path.Clean(value)
			ok = node.Path == value || strings.HasPrefix(node.Path, value+"/")
		}
		if ok {
			matched = append(matched, name)
		}
	}
	return matched
}

func (p *Project) above(name string, into selection) {
	for _, on := range p.nodes[name].DependsOn {
		if !into[on] {
			into[on] = true
			p.above(on, into)
		}
	}
}

func (p *Project) below(names []string, into selection) {
	reached := selection{}
	for _, name := range names {
		reached[name] = true
	}
	for _, name := range p.order { // each after what it depends on
		for _, on := range p.nodes[name].DependsOn {
			if reached[on] {
				reached[name], into[name] = true, true
			}
		}
	}
}

// List returns what a selector picks, each node after those it depends on.
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
		if !picked[name] || node.Kind == Seed {
			continue
		}
		text, err := p.compile(node, occasion{dialect: dialect})
		if err != nil {
			return nil, fmt.Errorf("compile %s: %w", name, err)
		}
		compiled = append(compiled, Compiled{name, node.Path, text})
	}
	return compiled, nil
}

func (p *Project) compile(node *Node, o occasion) (string, error) {
	if node.template == nil {
		return node.test.query(o.dialect)
	}
	return scope{occasion: o, project: p, node: node}.compile()
}
