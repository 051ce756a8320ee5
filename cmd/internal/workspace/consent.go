package workspace

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/consent"
)

// Consent configures a consent.Policy.
type Consent struct {
	Version    string                       `yaml:"version"`
	Purposes   []PurposeEntry               `yaml:"purposes"`
	Regions    []RegionRule                 `yaml:"regions"`
	Categories map[string][]consent.Purpose `yaml:"categories"`
	Mappings   ConsentMappings              `yaml:"mappings"`
	GPCDenies  []consent.Purpose            `yaml:"gpc_denies"`
	DNTDenies  []consent.Purpose            `yaml:"dnt_denies"`
	MaxAge     time.Duration                `yaml:"max_age"`
	// SealFor are the purposes that need direct identifiers.
	SealFor []consent.Purpose `yaml:"seal_for"`
	// Retention is how long after it was sealed what is for a purpose can be
	// opened; without an entry, for as long as there is its key.
	Retention map[consent.Purpose]Age `yaml:"retention"`
	// Controller is who is responsible, as receipts tell; the default is the
	// workspace's name.
	Controller Controller `yaml:"controller"`
}

// Controller is who is responsible for the processing.
type Controller struct {
	Name    string `yaml:"name"`
	Contact string `yaml:"contact"`
}

// RegionRule is a consent.Rule.
type RegionRule struct {
	In       []string          `yaml:"in"`
	Sources  []string          `yaml:"sources"`
	Mode     consent.Mode      `yaml:"mode"`
	Purposes []consent.Purpose `yaml:"purposes"`
	Law      string            `yaml:"law"`
}

// ConsentMappings are consent.Mappings; the words of each consent tool are under
// the name of its kind.
type ConsentMappings struct {
	TCF               map[consent.Purpose][]string            `yaml:"tcf"`
	TCFVendor         int                                     `yaml:"tcf_vendor"`
	GPP               map[string][]consent.Purpose            `yaml:"gpp"`
	ConsentMode       map[string][]consent.Purpose            `yaml:"google_consent_mode"`
	ConsentModeGrants bool                                    `yaml:"google_consent_mode_grants"`
	Tools             map[string]map[string][]consent.Purpose `yaml:",inline"`
}

// PurposeEntry is a consent.Definition, or a purpose's name alone.
type PurposeEntry struct {
	Name        consent.Purpose `yaml:"name"`
	Description string          `yaml:"description"`
	Basis       consent.Basis   `yaml:"basis"`
	Expiry      time.Duration   `yaml:"expiry"`
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *PurposeEntry) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		p.Name = consent.Purpose(node.Value)
		return nil
	}
	// Behind a method of this kind the decoder is no longer strict.
	for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
		if key := node.Content[i]; !slices.Contains([]string{"name", "description", "basis", "expiry"}, key.Value) {
			return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type purpose", key.Line, key.Value)}}
		}
	}
	type plain PurposeEntry
	return node.Decode((*plain)(p))
}

// policyConfig is the policy that the workspace describes.
func (c *Consent) policyConfig() consent.PolicyConfig {
	config := consent.PolicyConfig{
		Version: c.Version, GPCDenies: c.GPCDenies, DNTDenies: c.DNTDenies, MaxAge: c.MaxAge,
		Mappings: consent.Mappings{
			TCF: c.Mappings.TCF, TCFVendor: c.Mappings.TCFVendor, GPP: c.Mappings.GPP, ConsentMode: c.Mappings.ConsentMode,
			ConsentModeGrants: c.Mappings.ConsentModeGrants, Tools: make(map[consent.Kind]map[string][]consent.Purpose), Categories: c.Categories,
		},
	}
	for tool, words := range c.Mappings.Tools {
		config.Mappings.Tools[consent.Kind(tool)] = words
	}
	for _, p := range c.Purposes {
		config.Purposes = append(config.Purposes, consent.Definition{Purpose: p.Name, Description: p.Description, Basis: p.Basis, Expiry: p.Expiry})
	}
	for _, r := range c.Regions {
		config.Rules = append(config.Rules, consent.Rule{Regions: r.In, Sources: r.Sources, Mode: r.Mode, Purposes: r.Purposes, Law: r.Law})
	}
	return config
}

// loadPolicy makes the policy, and tells whether it could.
func (w *Workspace) loadPolicy(doc *document) bool {
	for i, r := range w.Consent.Regions {
		for j, id := range r.Sources {
			if !w.HasSource(id) {
				doc.report(fmt.Sprintf("consent.regions.%d.sources.%d", i, j), "there is no source with this id")
			}
		}
	}
	policy, err := consent.NewPolicy(w.Consent.policyConfig())
	if problem, ok := errors.AsType[*consent.ConfigError](err); ok {
		doc.reportAt(append([]string{"consent"}, problem.Path...), "%s", problem.Problem)
		return false
	}
	if err != nil {
		doc.report("consent", "%v", err)
		return false
	}
	w.Policy = policy
	for _, purpose := range w.Consent.SealFor {
		if !policy.Knows(purpose) {
			doc.report("consent.seal_for", "unknown purpose %q; known are %v", purpose, policy.Purposes())
		}
	}
	w.checkRetention(doc)
	return true
}

// HasSource tells whether there is a source with an id.
func (w *Workspace) HasSource(id string) bool {
	return slices.ContainsFunc(w.Sources, func(s Source) bool { return s.ID == id })
}
