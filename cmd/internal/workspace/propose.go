package workspace

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/collector"
)

// NewPlan writes a plan of proposed events. comment stands above it.
func NewPlan(comment string, events []collector.PlannedEvent) ([]byte, error) {
	root := mapping(
		text("version"), quoted("1"),
		text("events"), eventList(events),
	)
	root.HeadComment = comment
	return encodePlan(root)
}

// MergePlan adds proposed events to a plan. What is there stays as it is, with its
// comments: an event that the plan does not have is added behind the others, and
// one that has no schema gets the one proposed. It says how many it has added, and
// how many have got a schema.
func MergePlan(file string, plan []byte, events []collector.PlannedEvent) (merged []byte, added, completed int, err error) {
	var document yaml.Node
	have := &collector.TrackingPlan{}
	if _, err := decode(file, plan, have); err != nil {
		return nil, 0, 0, err
	}
	if err := yaml.Unmarshal(plan, &document); err != nil || len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, 0, 0, errors.Join(fmt.Errorf("%s: not a tracking plan", file), err)
	}
	root := document.Content[0]
	list := child(root, "events")
	if list == nil || list.Kind != yaml.SequenceNode {
		list = &yaml.Node{Kind: yaml.SequenceNode}
		root.Content = append(root.Content, text("events"), list)
	}
	var fresh []collector.PlannedEvent
	for _, e := range events {
		i := slices.IndexFunc(have.Events, func(h collector.PlannedEvent) bool {
			return h.Name == e.Name && (h.Type == e.Type || h.Type == "" && e.Type == "track")
		})
		switch {
		case i < 0:
			fresh = append(fresh, e)
		case have.Events[i].Schema == nil && e.Schema != nil && list.Content[i].Kind == yaml.MappingNode:
			list.Content[i].Style = 0
			list.Content[i].Content = append(list.Content[i].Content, text("schema"), schemaNode(e.Schema))
			completed++
		}
	}
	if len(fresh) > 0 {
		list.Style = 0
		list.Content = append(list.Content, eventList(fresh).Content...)
	}
	merged, err = encodePlan(&document)
	return merged, len(fresh), completed, err
}

func encodePlan(node *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(node), e.Close()); err != nil {
		return nil, fmt.Errorf("writing a tracking plan: %w", err)
	}
	return b.Bytes(), nil
}

func eventList(events []collector.PlannedEvent) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, e := range events {
		event := mapping()
		add := func(key string, v *yaml.Node) { event.Content = append(event.Content, text(key), v) }
		if e.Name != "" {
			add("name", text(e.Name))
		}
		if e.Type != "track" {
			add("type", text(e.Type))
		}
		if len(e.Fields) > 0 {
			fields := mapping()
			for _, path := range slices.Sorted(maps.Keys(e.Fields)) {
				class := mapping(text("class"), text(string(e.Fields[path].Class)))
				class.Style = yaml.FlowStyle
				fields.Content = append(fields.Content, text(path), class)
			}
			add("fields", fields)
		}
		if e.Schema != nil {
			add("schema", schemaNode(e.Schema))
		}
		list.Content = append(list.Content, event)
	}
	return list
}

// keywordOrder is how people write a schema; other keywords follow.
var keywordOrder = []string{"type", "format", "enum", "required", "items", "properties"}

// schemaNode is a schema, or a part of one.
func schemaNode(v any) *yaml.Node {
	switch v := v.(type) {
	case map[string]any:
		node := mapping()
		keys := slices.Sorted(maps.Keys(v))
		_, schemas := v["type"].(map[string]any) // of properties, one of which is named type
		if v["type"] != nil && !schemas {
			slices.SortStableFunc(keys, func(a, b string) int { return slices.Index(keywordOrder, a) - slices.Index(keywordOrder, b) })
			if v["properties"] == nil && v["items"] == nil {
				node.Style = yaml.FlowStyle
			}
		}
		for _, key := range keys {
			node.Content = append(node.Content, text(key), schemaNode(v[key]))
		}
		return node
	case []any:
		node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, each := range v {
			node.Content = append(node.Content, schemaNode(each))
		}
		return node
	case string:
		return text(v)
	default:
		node := &yaml.Node{}
		if err := node.Encode(v); err != nil {
			return text("")
		}
		return node
	}
}

func mapping(content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: content}
}

// text is a text, in quotes where YAML would read something else.
func text(s string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(s)
	return node
}

func quoted(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
}
