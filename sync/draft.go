package syncer

import (
	"bytes"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Draft is a sync before it has a file.
type Draft struct {
	Model, Key, Purpose, Destination string

	Settings []Setting
	Mapping  []Field
	Mode     Mode
	MinSize  int64 // 0 is none
	// Accounts says that the rows are accounts, of whose members Consenting have to
	// agree; 0 is one.
	Accounts   bool
	Consenting int64
}

// Setting is a value of a destination's configuration: the text itself, or where
// it is to be found.
type Setting struct {
	Name, Value string
	Ref         SecretRef
}

// Encode writes the file of the sync, in the order in which people read it. What
// it says may be wrong; [Parse] tells.
func (d Draft) Encode() ([]byte, error) {
	type field struct {
		Field  string  `yaml:"field"`
		Column string  `yaml:"column,omitempty"`
		Sealed string  `yaml:"sealed,omitempty"`
		Value  *string `yaml:"value,omitempty"`
	}
	file := struct {
		Entity      string           `yaml:"entity,omitempty"`
		Members     map[string]int64 `yaml:"members,omitempty"`
		Model       string           `yaml:"model"`
		Key         string           `yaml:"key"`
		Purpose     string           `yaml:"purpose"`
		Destination string           `yaml:"destination"`
		Config      *yaml.Node       `yaml:"config,omitempty"`
		Mapping     []field          `yaml:"mapping"`
		Mode        string           `yaml:"mode"`
		Guards      map[string]int64 `yaml:"guards,omitempty"`
	}{Model: d.Model, Key: d.Key, Purpose: d.Purpose, Destination: d.Destination, Mode: string(d.Mode)}
	for _, f := range d.Mapping {
		file.Mapping = append(file.Mapping, field{f.Field, f.Column, f.Sealed, f.Value})
	}
	if len(d.Settings) > 0 {
		file.Config = &yaml.Node{Kind: yaml.MappingNode}
		for _, s := range d.Settings {
			file.Config.Content = append(file.Config.Content, textNode(s.Name), s.node())
		}
	}
	if d.Accounts {
		file.Entity = entityAccount
	}
	if d.Accounts && d.Consenting > 1 {
		file.Members = map[string]int64{"consenting": d.Consenting}
	}
	if d.MinSize > 0 {
		file.Guards = map[string]int64{"min_size": d.MinSize}
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(file), encoder.Close()); err != nil {
		return nil, fmt.Errorf("encode a sync: %w", err)
	}
	return text.Bytes(), nil
}

func (s Setting) node() *yaml.Node {
	kind, where := "env", s.Ref.Env
	if s.Ref.File != "" {
		kind, where = "file", s.Ref.File
	}
	if where == "" {
		return textNode(s.Value)
	}
	return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{textNode(kind), textNode(where)}}
}

func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
