package runner

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Kind tells what a node of a project is.
type Kind string

// The kinds of nodes.
const (
	Model Kind = "model"
	Seed  Kind = "seed"
	Test  Kind = "test"

	// Source is a table that others fill: no node, but what some results are of.
	Source Kind = "source"
)

// Materialization tells what a model becomes in the warehouse.
type Materialization string

// The materializations.
const (
	View        Materialization = "view"
	Table       Materialization = "table"
	Ephemeral   Materialization = "ephemeral"   // nothing: its query is put into those that use it
	Incremental Materialization = "incremental" // a table that runs add to
	Fixpoint    Materialization = "fixpoint"    // a table computed by rounds of statements
	SeedTable   Materialization = "seed"        // a table of the rows of a CSV file
)

// Node is something that runs build, or a test.
type Node struct {
	Name         string
	Kind         Kind
	Path         string // the file it is defined in
	Materialized Materialization
	Description  string
	Tags         []string
	Meta         map[string]any
	DependsOn    []string // names of nodes, sorted
	Columns      []Column
	Audience     *Audience // set for models under models/audiences

	describedIn string   // the file of YAML about it, if there is one
	inAudiences bool     // the file is in the folder audiences
	sources     []string // that it reads, as "source.table"
	maxBytes    *int64   // meta.max_bytes

	config       config
	partitioning *partitioning // nil if there is none
	cluster      []string
	template     template
	source       string
	test         *testSpec
}

// Audience is what an audience declares in config.meta.audience.
type Audience struct {
	Entity  string // EntityProfile or EntityAccount
	Purpose string
	MinSize int
	// MinMembersConsenting is how many people of an account have to agree to the
	// purpose before it is published.
	MinMembersConsenting int
}

// What an audience lists.
const (
	EntityProfile = "profile"
	EntityAccount = "account"
)

// key is the column that identifies a member.
func (a *Audience) key() string { return a.Entity + "_id" }

// config is what dbt calls a node's config. Keys that only mean something to
// dbt or to another warehouse are accepted and kept.
type config map[string]any

var configKeys = []string{
	"materialized", "tags", "meta", "enabled", "unique_key", "incremental_strategy", "on_schema_change", "full_refresh",
	"description", "contract", "column_types", "delimiter", "quote_columns", "group", "docs", "event_time", "access",
	"partition_by", "cluster_by", "partitions", "partition_expiration_days", "hours_to_expiration",
	"labels", "grants", "persist_docs", "sql_header", "severity", "where", "limit", "warn_if", "error_if", "fail_calc", "store_failures",
}

// unsupportedKeys are dbt's, but a run that ignored them would do something
// else than dbt does.
var unsupportedKeys = map[string]string{
	"schema":    "all models are built in one schema: remove it",
	"database":  "all models are built in one database: remove it",
	"alias":     "a model is called like its file: rename the file",
	"pre-hook":  "hooks are not run: make a model of it",
	"post-hook": "hooks are not run: make a model of it",
	"pre_hook":  "hooks are not run: make a model of it",
	"post_hook": "hooks are not run: make a model of it",
	// Those that test a model and those that read it do not filter.
	"require_partition_filter": "models and tests read whole tables: remove it",
}

// overwriteHook does for dbt what insert_overwrite does here by itself, and
// huskHook what delete+insert does.
var (
	overwriteHook = regexp.MustCompile(`^\{\{ (remove_left_behind\(\)|remove_emptied_days\(\w+\(\)\)) \}\}$`)
	huskHook      = regexp.MustCompile(`^\{\{ remove_husks\('(\w+)'\) \}\}$`)
)

// husk is the column that is NULL in a row that delete+insert does not insert,
// but only deletes by; empty if there is none.
func (n *Node) husk() string {
	if found := huskHook.FindStringSubmatch(n.config.text("post_hook")); found != nil {
		return found[1]
	}
	return ""
}

// checkConfig returns what is wrong with a config in a file of SQL, or an empty
// string.
func checkConfig(key string, value any) string {
	if text, ok := value.(string); ok && key == "post_hook" && (overwriteHook.MatchString(text) || huskHook.MatchString(text)) {
		return ""
	}
	return checkConfigKey(key)
}

// checkConfigKey returns what is wrong with a key, or an empty string.
func checkConfigKey(key string) string {
	if why, ok := unsupportedKeys[key]; ok {
		return fmt.Sprintf("config %q is not supported: %s", key, why)
	}
	if !slices.Contains(configKeys, key) {
		return fmt.Sprintf("unknown config %q: keys of your own go under meta", key)
	}
	return ""
}

// merge returns c with the keys of more. Tags add up, meta is merged by key,
// all else is replaced, as in dbt.
func (c config) merge(more config) config {
	merged := config{}
	maps.Copy(merged, c)
	for key, value := range more {
		switch key {
		case "tags":
			merged[key] = append(slices.Clone(asTexts(merged[key])), asTexts(value)...)
		case "meta":
			meta := map[string]any{}
			for _, m := range []any{merged[key], value} {
				if m, ok := m.(map[string]any); ok {
					maps.Copy(meta, m)
				}
			}
			merged[key] = meta
		default:
			merged[key] = value
		}
	}
	return merged
}

// asTexts reads a list of texts, or one text, as configs are given both ways.
func asTexts(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case []any:
		var texts []string
		for _, element := range v {
			texts = append(texts, fmt.Sprint(element))
		}
		return texts
	}
	return nil
}

func (c config) text(key string) string {
	text, _ := c[key].(string)
	return text
}

// enabled is true unless the config says otherwise.
func (c config) enabled() bool {
	enabled, ok := c["enabled"].(bool)
	return enabled || !ok
}

// identifier is a name that needs no quoting in any warehouse.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// settle takes over what the config says, and returns what is wrong with it.
func (n *Node) settle() []fault {
	var faults []fault
	if !identifier.MatchString(n.Name) {
		faults = append(faults, fault{"", fmt.Sprintf("the name %q must be letters, digits and _: rename the file", n.Name)})
	}
	n.Tags = nil
	for _, tag := range asTexts(n.config["tags"]) {
		if !slices.Contains(n.Tags, tag) {
			n.Tags = append(n.Tags, tag)
		}
	}
	n.Meta, _ = n.config["meta"].(map[string]any)
	for _, wrong := range n.readMaxBytes() {
		faults = append(faults, fault{"max_bytes", wrong})
	}
	if n.Kind == Test {
		return append(faults, n.readTestConfig()...)
	}
	if n.Kind != Model {
		return faults
	}
	n.Materialized = Materialization(n.config.text("materialized"))
	switch n.Materialized {
	case "":
		n.Materialized = View
	case View, Table, Ephemeral:
	case Incremental:
		faults = append(faults, n.checkIncremental()...)
	case Fixpoint:
		if _, err := fixpointOf(n.Meta); err != nil {
			faults = append(faults, fault{"meta", err.Error()})
		}
	case SeedTable:
		fallthrough
	default:
		faults = append(faults, fault{"materialized", fmt.Sprintf("unknown materialization %q: it may be view, table, ephemeral, incremental or fixpoint", n.Materialized)})
	}
	faults = append(faults, n.readContract()...)
	return append(faults, n.readLayout()...)
}

func (n *Node) checkIncremental() []fault {
	if change := n.config.text("on_schema_change"); change != "" && change != "ignore" && change != "fail" {
		return []fault{{"on_schema_change", fmt.Sprintf("on_schema_change %q is not supported: use fail, and build anew with --full-refresh when columns change", change)}}
	}
	const key = "incremental_strategy"
	switch strategy := n.config.text(key); strategy {
	case "", "append", insertOverwrite:
		return nil
	case "delete+insert", "merge":
		if len(asTexts(n.config["unique_key"])) == 0 {
			return []fault{{key, fmt.Sprintf("incremental_strategy %q needs a unique_key", strategy)}}
		}
		return nil
	default:
		return []fault{{key, fmt.Sprintf("incremental_strategy %q is not supported: use append, merge, delete+insert or insert_overwrite", strategy)}}
	}
}

// isAudience tells by the place of a model, so that declaring it cannot be
// forgotten, or by its declaration, wherever it is.
func (n *Node) isAudience() bool {
	_, declared := n.Meta["audience"]
	return n.Kind == Model && (declared || n.inAudiences)
}

// audienceKeys are what meta.audience may have. A key that is not known could be
// a limit that is misspelt, and would limit nothing.
var audienceKeys = []string{"entity", "purpose", "min_size", "min_members_consenting"}

// readAudience checks what an audience declares.
func (n *Node) readAudience(purposes []string) []string {
	declared, ok := n.Meta["audience"].(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("the audience %s must say whom it lists and what for, as in config: {meta: {audience: {entity: profile, purpose: marketing, min_size: 50}}}", n.Name)}
	}
	var wrong []string
	report := func(format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("the audience %s "+format, append([]any{n.Name}, args...)...))
	}
	for _, key := range slices.Sorted(maps.Keys(declared)) {
		if !slices.Contains(audienceKeys, key) {
			report("has an unknown meta.audience.%s: it may have %s; what is your own goes beside it, under meta", key, strings.Join(audienceKeys, ", "))
		}
	}
	a := &Audience{MinMembersConsenting: 1}
	a.Entity, _ = declared["entity"].(string)
	a.Purpose, _ = declared["purpose"].(string)
	a.MinSize, _ = declared["min_size"].(int)
	if a.Entity != EntityProfile && a.Entity != EntityAccount {
		report("needs meta.audience.entity: profile, or account")
	}
	if !slices.Contains(purposes, a.Purpose) {
		report("needs meta.audience.purpose, one of %s (vars.purposes in dbt_project.yml)", strings.Join(purposes, ", "))
	}
	if a.MinSize < 1 {
		report("needs meta.audience.min_size of at least 1")
	}
	if least, ok := declared["min_members_consenting"]; ok {
		a.MinMembersConsenting, _ = least.(int)
		if a.Entity != EntityAccount || a.MinMembersConsenting < 1 {
			report("has a meta.audience.min_members_consenting that is not at least 1, of accounts")
		}
	}
	if n.Materialized == Ephemeral {
		report("cannot be ephemeral: make it a table or a view")
	}
	n.Audience = a
	return wrong
}
