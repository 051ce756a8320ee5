package runner

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlFile reads a file of YAML strictly, collecting problems with their lines.
type yamlFile struct {
	path     string
	problems Problems
}

// entry is a key of a mapping with its value.
type entry struct {
	key  string
	line int
	node *yaml.Node
}

func readYAML(files fs.FS, path string) (*yamlFile, *yaml.Node) {
	f := &yamlFile{path: path}
	content, err := fs.ReadFile(files, path)
	if err != nil {
		f.problems = append(f.problems, Problem{Path: path, Message: err.Error()})
		return f, nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		line := 0
		if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
		f.problems = append(f.problems, Problem{Path: path, Line: line, Message: "not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")})
		return f, nil
	}
	if len(document.Content) == 0 {
		return f, nil
	}
	return f, document.Content[0]
}

func (f *yamlFile) report(node *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, Problem{Path: f.path, Line: node.Line, Message: fmt.Sprintf(format, args...)})
}

// entries lists a mapping. With allowed keys given, others are problems.
func (f *yamlFile) entries(node *yaml.Node, what string, allowed ...string) []entry {
	node = resolve(node)
	if node == nil || node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		f.report(node, "%s must be a mapping of keys to values", what)
		return nil
	}
	var entries []entry
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		switch {
		case seen[key.Value]:
			f.report(key, "the key %q is there twice: remove one", key.Value)
			continue
		case len(allowed) > 0 && !slices.Contains(allowed, key.Value):
			f.report(key, "unknown key %q in %s: it may have %s (keys of your own go under meta)", key.Value, what, strings.Join(allowed, ", "))
			continue
		}
		seen[key.Value] = true
		entries = append(entries, entry{key.Value, key.Line, value})
	}
	return entries
}

func (f *yamlFile) list(node *yaml.Node, what string) []*yaml.Node {
	node = resolve(node)
	if node == nil || node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		f.report(node, "%s must be a list", what)
		return nil
	}
	items := make([]*yaml.Node, len(node.Content))
	for i, item := range node.Content {
		items[i] = resolve(item)
	}
	return items
}

func (f *yamlFile) text(node *yaml.Node, what string) string {
	node = resolve(node)
	if node == nil || node.Kind != yaml.ScalarNode {
		f.report(node, "%s must be a text", what)
		return ""
	}
	return node.Value
}

// texts reads a list of texts, or one text.
func (f *yamlFile) texts(node *yaml.Node, what string) []string {
	if node = resolve(node); node.Kind == yaml.ScalarNode {
		return []string{node.Value}
	}
	var texts []string
	for _, item := range f.list(node, what) {
		texts = append(texts, f.text(item, what))
	}
	return texts
}

// value reads anything as string, int, float64, bool, nil, []any or
// map[string]any.
func (f *yamlFile) value(node *yaml.Node) any {
	var value any
	if err := node.Decode(&value); err != nil {
		f.report(node, "%v", err)
	}
	return value
}

func resolve(node *yaml.Node) *yaml.Node {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}
