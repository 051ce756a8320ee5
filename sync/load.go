package syncer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// SecretRef says where a value of a destination's configuration is to be
// found. Exactly one of its fields is set.
type SecretRef struct {
	Env  string // name of an environment variable
	File string // path of a file
}

// Defaults of a sync's file.
const (
	defaultProfile    = "profile_id"
	defaultMembers    = "account_members"
	defaultMaxRemoved = 0.5
	defaultMinRemoved = 20
	defaultBatchRows  = 1000
	maxBatchRows      = 10_000
)

var (
	syncName   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	plugName   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
)

// Load reads the syncs, one in each *.yaml file at the top of fsys, by name.
// resolve fetches what {env: NAME} and {file: path} refer to.
//
// The error tells everything that is wrong in all files, each with file, line
// and what would be right. It repeats no value of a configuration.
func Load(fsys fs.FS, resolve func(SecretRef) (string, error)) ([]Sync, error) {
	files, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("load syncs: %w", err)
	}
	more, err := fs.Glob(fsys, "*.yml")
	if err != nil {
		return nil, fmt.Errorf("load syncs: %w", err)
	}
	var syncs []Sync
	var problems []error
	declared := map[string]string{}
	for _, file := range slices.Sorted(slices.Values(append(files, more...))) {
		content, err := fs.ReadFile(fsys, file)
		if err != nil {
			problems = append(problems, fmt.Errorf("load sync: %w", err))
			continue
		}
		s, errs := parse(file, content, resolve)
		if other, ok := declared[s.Name]; ok {
			errs = append(errs, fmt.Errorf("%s:1: %s declares the sync %q already: rename one of the files", file, other, s.Name))
		}
		declared[s.Name] = file
		problems = append(problems, errs...)
		syncs = append(syncs, s)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	slices.SortFunc(syncs, func(a, b Sync) int { return cmp.Compare(a.Name, b.Name) })
	return syncs, nil
}

// Parse reads one sync as [Load] does.
func Parse(file string, content []byte, resolve func(SecretRef) (string, error)) (Sync, error) {
	s, problems := parse(file, content, resolve)
	return s, errors.Join(problems...)
}

// parser reads one file and collects what is wrong with it.
type parser struct {
	file     string
	resolve  func(SecretRef) (string, error)
	problems []error
}

func (p *parser) wrong(at *yaml.Node, format string, args ...any) {
	line := 1
	if at != nil {
		line = at.Line
	}
	p.problems = append(p.problems, fmt.Errorf("%s:%d: %w", p.file, line, fmt.Errorf(format, args...)))
}

func parse(file string, content []byte, resolve func(SecretRef) (string, error)) (Sync, []error) {
	p := &parser{file: file, resolve: resolve}
	s := Sync{
		Name:      strings.TrimSuffix(path.Base(file), path.Ext(file)),
		File:      file,
		Profile:   defaultProfile,
		Mode:      ModeMirror,
		Guards:    Guards{MaxRemovedShare: defaultMaxRemoved, MinRemoved: defaultMinRemoved},
		BatchRows: defaultBatchRows,
	}
	if !syncName.MatchString(s.Name) {
		p.wrong(nil, "the file's name is the sync's name: use lower-case letters, digits, - and _, such as crm-customers.yaml")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return s, append(p.problems, fmt.Errorf("%s: %w", file, err))
	}
	if len(doc.Content) == 0 {
		p.wrong(nil, "the file is empty: declare at least model, key, purpose, destination and mapping")
		return s, p.problems
	}
	root := doc.Content[0]
	entity := entityProfile
	seen := p.fields(root, "", map[string]func(*yaml.Node){
		"entity":      func(n *yaml.Node) { entity = p.entity(n) },
		"members":     func(n *yaml.Node) { s.Members = p.members(n) },
		"model":       func(n *yaml.Node) { s.Model = p.name(n, "model", identifier) },
		"key":         func(n *yaml.Node) { s.Key = p.name(n, "key", identifier) },
		"profile":     func(n *yaml.Node) { s.Profile = p.name(n, "profile", identifier) },
		"purpose":     func(n *yaml.Node) { s.Purpose = p.name(n, "purpose", identifier) },
		"destination": func(n *yaml.Node) { s.Destination = p.name(n, "destination", plugName) },
		"config":      func(n *yaml.Node) { s.Config = p.config(n) },
		"mapping":     func(n *yaml.Node) { s.Mapping = p.mapping(n) },
		"mode":        func(n *yaml.Node) { s.Mode, s.ModeLine = p.mode(n), n.Line },
		"guards":      func(n *yaml.Node) { s.Guards = p.guards(n, s.Guards) },
		"holdout":     func(n *yaml.Node) { s.Holdout = p.holdout(n) },
		"refresh":     func(n *yaml.Node) { s.Refresh = p.duration(n, "refresh", "540d or 12h") },
		"rate":        func(n *yaml.Node) { s.Rate, s.RateLine = p.rate(n), n.Line },
		"schedule":    func(n *yaml.Node) { s.Schedule = p.schedule(n) },
		"batch_rows":  func(n *yaml.Node) { s.BatchRows = p.batchRows(n) },
	})
	for _, required := range []struct{ name, remedy string }{
		{"model", "name the model whose rows are sent"},
		{"key", "name the column that identifies a row"},
		{"purpose", "say what for, such as marketing: without a purpose nobody has agreed to it"},
		{"destination", "name the destination plugin"},
		{"mapping", "list the fields to send"},
	} {
		if root.Kind == yaml.MappingNode && !seen[required.name] {
			p.wrong(root, "%s is missing: %s", required.name, required.remedy)
		}
	}
	p.account(root, &s, entity, seen)
	p.settle(root, &s)
	return s, p.problems
}

// What a row is.
const (
	entityProfile = "profile"
	entityAccount = "account"
)

func (p *parser) entity(n *yaml.Node) string {
	entity := p.text(n, "entity")
	if entity != entityProfile && entity != entityAccount {
		p.wrong(n, "entity must be %s (rows are people) or %s (rows are companies, and so on)", entityProfile, entityAccount)
	}
	return entity
}

func (p *parser) members(n *yaml.Node) (m Members) {
	p.fields(n, "members: ", map[string]func(*yaml.Node){
		"model": func(n *yaml.Node) { m.Model = p.name(n, "members: model", identifier) },
		"consenting": func(n *yaml.Node) {
			if err := n.Decode(&m.Consenting); err != nil || m.Consenting < 1 {
				p.wrong(n, "members: consenting must be a whole number from 1")
			}
		},
	})
	return m
}

// account completes a sync of accounts. No person stands behind its row, so it has
// no profile, and nothing that is sealed for one.
func (p *parser) account(root *yaml.Node, s *Sync, entity string, seen map[string]bool) {
	if entity != entityAccount {
		if seen["members"] {
			p.wrong(root, "members are of accounts: say entity: %s, or remove them", entityAccount)
		}
		return
	}
	if seen["profile"] {
		p.wrong(root, "a row of an account has no profile: its members' consent counts; remove profile")
	}
	s.Profile = s.Key
	s.Members.Model = cmp.Or(s.Members.Model, defaultMembers)
	s.Members.Consenting = cmp.Or(s.Members.Consenting, 1)
	for _, f := range s.Mapping {
		if f.Sealed != "" {
			p.problems = append(p.problems, fmt.Errorf("%s:%d: mapping: the field %q is sealed for a person, and the rows are accounts: remove it, or send people", p.file, f.Line, f.Field))
		}
	}
}

// settle completes what depends on several keys, and refuses what does not go
// together.
func (p *parser) settle(root *yaml.Node, s *Sync) {
	if s.Refresh > 0 && (s.Mode.once() || s.Mode == ModeFull) {
		p.wrong(root, "refresh does not go with mode %s, which %s: remove one", s.Mode,
			map[bool]string{true: "sends each row once", false: "sends all rows by each run"}[s.Mode.once()])
	}
	if s.Mode == ModeFull && s.Schedule == (Schedule{}) {
		p.wrong(root, "mode %s sends all rows by each run, which would be after each build of the models: give it a schedule, such as {every: 24h} or manual", ModeFull)
	}
	if s.Mode == ModeUpdate && s.Guards.MinSize > 0 {
		p.wrong(root, "min_size does not go with mode %s: who is there is only known when it has been sent: remove one", ModeUpdate)
	}
	if s.Holdout.Share > 0 {
		s.Holdout.Seed = cmp.Or(s.Holdout.Seed, s.Name)
		s.Holdout.Column = cmp.Or(s.Holdout.Column, s.Key)
	}
}

// fields hands each entry of a mapping to its function, and tells which there
// were.
func (p *parser) fields(n *yaml.Node, where string, known map[string]func(*yaml.Node)) map[string]bool {
	seen := map[string]bool{}
	if n.Kind != yaml.MappingNode {
		p.wrong(n, "%sexpected keys and values", where)
		return seen
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := known[key.Value]
		switch {
		case !ok:
			p.wrong(key, "%sunknown key %q: known are %s", where, key.Value, strings.Join(sortedKeys(known), ", "))
		case seen[key.Value]:
			p.wrong(key, "%s%s is given twice: remove one", where, key.Value)
		default:
			seen[key.Value] = true
			read(value)
		}
	}
	return seen
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// text reads a string, which YAML may take for something else if it stands
// without quotes.
func (p *parser) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.wrong(n, "%s must be text", what)
		return ""
	}
	return n.Value
}

func (p *parser) name(n *yaml.Node, what string, pattern *regexp.Regexp) string {
	name := p.text(n, what)
	if name != "" && !pattern.MatchString(name) {
		p.wrong(n, "%s must be a plain name: it has to match %s", what, pattern)
	}
	if name == "" && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		p.wrong(n, "%s is empty: give it a name", what)
	}
	return name
}

func (p *parser) mode(n *yaml.Node) Mode {
	mode := Mode(p.text(n, "mode"))
	if !slices.Contains(modes(), mode) {
		p.wrong(n, "mode must be %s (rows that leave the model are removed), %s (they stay), %s (so do they, and only what is there is changed), %s (each row is sent once, and left alone), %s (rows are events) or %s (each run sends all rows)",
			ModeMirror, ModeUpsert, ModeUpdate, ModeCreate, ModeAppend, ModeFull)
		return ModeMirror
	}
	return mode
}

var (
	days = regexp.MustCompile(`^([1-9][0-9]{0,4})d$`)
	seed = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
)

// duration reads a time such as 36h or, in days, 30d.
func (p *parser) duration(n *yaml.Node, what, example string) time.Duration {
	text := p.text(n, what)
	if found := days.FindStringSubmatch(text); found != nil {
		count, _ := strconv.Atoi(found[1])
		return time.Duration(count) * 24 * time.Hour
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		p.wrong(n, "%s must be a time such as %s", what, example)
		return 0
	}
	return d
}

func (p *parser) rate(n *yaml.Node) Rate {
	r, ok := parseRate(p.text(n, "rate"))
	if !ok {
		p.wrong(n, "rate must be a number of requests and a time of at most a day, such as 5/s, 50/10s or 300/min")
		return Rate{}
	}
	return r
}

func (p *parser) holdout(n *yaml.Node) (h Holdout) {
	if n.Kind == yaml.ScalarNode {
		return Holdout{Share: p.share(n)}
	}
	seen := p.fields(n, "holdout: ", map[string]func(*yaml.Node){
		"share":  func(n *yaml.Node) { h.Share = p.share(n) },
		"seed":   func(n *yaml.Node) { h.Seed = p.name(n, "seed", seed) },
		"column": func(n *yaml.Node) { h.Column = p.name(n, "column", identifier) },
	})
	if n.Kind == yaml.MappingNode && !seen["share"] {
		p.wrong(n, "holdout: share is missing: give a percentage such as 10%%")
	}
	return h
}

// share reads a percentage.
func (p *parser) share(n *yaml.Node) float64 {
	number, ok := strings.CutSuffix(p.text(n, "share"), "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent > 0 && percent < 100) {
		p.wrong(n, "holdout: the share must be a percentage between 0%% and 100%%, such as 10%%")
		return 0
	}
	return percent / 100
}

func (p *parser) guards(n *yaml.Node, guards Guards) Guards {
	p.fields(n, "guards: ", map[string]func(*yaml.Node){
		"max_removed_share": func(n *yaml.Node) {
			if err := n.Decode(&guards.MaxRemovedShare); err != nil || !(guards.MaxRemovedShare >= 0 && guards.MaxRemovedShare <= 1) {
				p.wrong(n, "max_removed_share must be a number from 0 to 1, such as 0.5")
			}
		},
		"min_removed": func(n *yaml.Node) {
			if err := n.Decode(&guards.MinRemoved); err != nil || guards.MinRemoved < 0 {
				p.wrong(n, "min_removed must be a whole number from 0")
			}
		},
		"min_size": func(n *yaml.Node) {
			if err := n.Decode(&guards.MinSize); err != nil || guards.MinSize < 0 {
				p.wrong(n, "min_size must be a whole number from 0")
			}
		},
	})
	return guards
}

func (p *parser) schedule(n *yaml.Node) (s Schedule) {
	const want = "schedule must be after_models, manual, {every: 6h} or {cron: \"0 6 * * 1-5\", time_zone: Europe/Amsterdam}"
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "manual":
			s.Manual = true
		case "after_models":
		default:
			p.wrong(n, want)
		}
		return s
	}
	seen := p.fields(n, "schedule: ", map[string]func(*yaml.Node){
		"every": func(n *yaml.Node) {
			s.Every = p.duration(n, "every", "15m or 6h")
		},
		"cron": func(n *yaml.Node) {
			s.Cron = p.text(n, "cron")
			if err := s.check(); err != nil {
				p.wrong(n, "%w", err)
			}
		},
		"time_zone": func(n *yaml.Node) {
			zone, err := time.LoadLocation(p.text(n, "time_zone"))
			if err != nil {
				p.wrong(n, "time_zone must be a name such as Europe/Amsterdam, or UTC")
			}
			s.Zone = zone
		},
	})
	if n.Kind == yaml.MappingNode && (seen["every"] == seen["cron"] || seen["time_zone"] && !seen["cron"]) {
		p.wrong(n, want)
	}
	return s
}

func (p *parser) batchRows(n *yaml.Node) int {
	var rows int
	if err := n.Decode(&rows); err != nil || rows < 1 || rows > maxBatchRows {
		p.wrong(n, "batch_rows must be a whole number from 1 to %d", maxBatchRows)
		return defaultBatchRows
	}
	return rows
}

func (p *parser) config(n *yaml.Node) Settings {
	settings := Settings{}
	if n.Kind != yaml.MappingNode {
		p.wrong(n, "config: expected keys and values")
		return settings
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if _, ok := settings[key.Value]; ok {
			p.wrong(key, "config: %s is given twice: remove one", key.Value)
			continue
		}
		settings[key.Value] = p.setting(key.Value, value)
	}
	return settings
}

func (p *parser) setting(name string, n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return p.text(n, "config: "+name)
	}
	var ref SecretRef
	p.fields(n, "config: "+name+": ", map[string]func(*yaml.Node){
		"env":  func(n *yaml.Node) { ref.Env = p.text(n, "env") },
		"file": func(n *yaml.Node) { ref.File = p.text(n, "file") },
	})
	if (ref.Env == "") == (ref.File == "") {
		p.wrong(n, "config: %s must be text, {env: NAME} or {file: path}", name)
		return ""
	}
	value, err := p.resolve(ref)
	if err != nil {
		p.wrong(n, "config: %s: %w", name, err)
	}
	return value
}

func (p *parser) mapping(n *yaml.Node) []Field {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.wrong(n, "mapping must be a list such as\n  - field: email\n    sealed: email")
		return nil
	}
	var fields []Field
	taken := map[string]bool{}
	for _, entry := range n.Content {
		f := p.field(entry)
		if taken[f.Field] && f.Field != "" {
			p.wrong(entry, "mapping: the field %q is given twice: remove one", f.Field)
		}
		taken[f.Field] = true
		fields = append(fields, f)
	}
	return fields
}

func (p *parser) field(n *yaml.Node) Field {
	f := Field{Line: n.Line}
	seen := p.fields(n, "mapping: ", map[string]func(*yaml.Node){
		"field":  func(n *yaml.Node) { f.Field = p.text(n, "field") },
		"column": func(n *yaml.Node) { f.Column = p.name(n, "column", identifier) },
		"sealed": func(n *yaml.Node) { f.Sealed = p.name(n, "sealed", identifier) },
		"value": func(n *yaml.Node) {
			value := p.text(n, "value")
			f.Value = &value
		},
		"required": func(n *yaml.Node) {
			if err := n.Decode(&f.Required); err != nil {
				p.wrong(n, "required must be true or false")
			}
		},
	})
	if n.Kind != yaml.MappingNode {
		return f
	}
	if f.Field == "" {
		p.wrong(n, "mapping: an entry without field: name the destination's field")
	}
	sources := 0
	for _, source := range []string{"column", "sealed", "value"} {
		if seen[source] {
			sources++
		}
	}
	if sources != 1 {
		p.wrong(n, "mapping: the field %q needs exactly one of column, sealed and value", f.Field)
	}
	return f
}
