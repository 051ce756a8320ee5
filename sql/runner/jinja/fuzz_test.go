package jinja

import (
	"strings"
	"testing"
)

// No template takes down the process or runs without end, whatever it is; what
// is wrong with one is told with its file and line.
func FuzzRender(f *testing.F) {
	c := readCorpus(f, "testdata/expected.json")
	for i, one := range c.Cases {
		if i%7 == 0 && len(*one[0]) < 200 {
			f.Add(*one[0])
		}
	}
	for _, seed := range []string{
		"{% raw %}{{{% endraw %}", "{%- test a(b) -%}{%- endtest -%}", "{{ 'x' % 1 }}", "{{ 1.5.a }}", "{{ [][1:2:0] }}", "{{-1}}", "{{ -}}",
		"{% set l = [] %}{% do l.append(l) %}{{ l }}", "{% set l = [] %}{% do l.append(l) %}{{ l == l }}{{ l | sort }}",
		"{% set d = {} %}{% do d.update({'d': d}) %}{{ d | tojson }}", "{% set l = [1] %}{% for x in l %}{% do l.append(x) %}{% endfor %}",
		"{{ 'a' * 9999999999 }}", "{{ '%999999d' % 1 }}", "{{ '{:>99999999}'.format(1) }}", "{{ [[1]] * 99999999 }}", "{{ 2 ** 2 ** 2 ** 9 }}",
		"{{ 'x'.center(99999999) }}", "{{ 'a' | indent(99999999) }}", "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}", "{{ range(1, 99999999999999, 99999999999) | list }}",
		strings.Repeat("{{ (", 300), strings.Repeat("(", 5000), "{{ " + strings.Repeat("-", 5000) + "1 }}", "{{ " + strings.Repeat("not ", 5000) + "1 }}",
		strings.Repeat("{% if 1 %}", 500), "{{ 1" + strings.Repeat(" + 1", 20000) + " }}", "{{ a" + strings.Repeat(".a", 5000) + " }}", "{{ x" + strings.Repeat("|upper", 5000) + " }}",
		"{{ -9223372036854775807 - 1 }}", "{{ (-9223372036854775807 - 1) // -1 }}", "{{ (-9223372036854775807 - 1) | abs }}", "{{ 'é'[0:1:-1] }}", "\xff", "{{ '\\ud800' }}",
		"{% set x = ['a'] %}{% for i in range(60) %}{% set x = x + x %}{% endfor %}", "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"{% set ns = namespace(x=(1,)) %}{% for i in range(90) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == ns.x }}{{ {ns.x: 1} }}",
	} {
		f.Add(seed)
	}
	e, globals := corpusEngine(f), c.globals(f)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := e.Parse("m.sql", text)
		if err == nil {
			_, err = parsed.Render(globals)
		}
		if located, ok := err.(*Error); err != nil && (!ok || located.Path == "" || located.Line == 0) { //nolint:errorlint // it is not wrapped
			t.Errorf("an error without file or line: %v", err)
		}
	})
}

// A template of each kind of load ends soon.
func TestBounded(t *testing.T) {
	e := corpusEngine(t)
	for _, text := range []string{
		"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"{% set ns = namespace(x='x') %}{% for a in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
		"{% set l = [1] %}{% for x in l %}{% do l.append(x) %}{% endfor %}",
		"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
		"{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
		"{% for i in range(100000) %}{% set x = range(100000) | list %}{% endfor %}",
		"{% set s = 'ab' * 100000 %}{% for i in range(100000) %}{% set x = s | upper %}{% endfor %}",
		"{% set s = 'ab' * 100000 %}{% for i in range(100000) %}{% set x = s.count('b') %}{% endfor %}",
		"{% for i in range(100000) %}{% set x = 'abc' in l %}{{ 'x' * 10000 }}{% endfor %}",
	} {
		parsed, err := e.Parse("m.sql", text)
		if err == nil {
			_, err = parsed.Render(nil)
		}
		if err == nil {
			t.Errorf("%s: it ended", text)
		}
	}
}

func BenchmarkCorpus(b *testing.B) {
	c, e := readCorpus(b, "testdata/expected.json"), corpusEngine(b)
	globals := c.globals(b)
	for b.Loop() {
		for _, one := range c.Cases[:400] {
			if parsed, err := e.Parse("m.sql", *one[0]); err == nil {
				_, _ = parsed.Render(globals)
			}
		}
	}
}
