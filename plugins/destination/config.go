package destination

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Field is one field of a destination's configuration. Values are strings; an
// empty value is the same as none.
type Field struct {
	Name     string
	Required bool
	Secret   bool   // never shown or logged
	Account  bool   // tells the account apart whose limits hold; see [Description]
	Help     string // one sentence for the person who fills it in
}

// ConfigError says which field of a configuration is wrong, and what would be
// right. It does not repeat the field's value, which may be a secret.
type ConfigError struct {
	Field   string
	Problem string
}

func (e *ConfigError) Error() string {
	return e.Field + ": " + e.Problem
}

// Validate checks a configuration against the fields of the description: none
// that is required is missing, none is unknown. It returns a [*ConfigError].
func (d Description) Validate(config map[string]string) error {
	known := make([]string, len(d.Config))
	for i, f := range d.Config {
		known[i] = f.Name
		if f.Required && config[f.Name] == "" {
			return &ConfigError{Field: f.Name, Problem: "is required: " + f.Help}
		}
	}
	given := make([]string, 0, len(config))
	for name := range config {
		given = append(given, name)
	}
	slices.Sort(given)
	for _, name := range given {
		if !slices.Contains(known, name) {
			return &ConfigError{Field: name, Problem: d.Name + " has no such field; it has " + strings.Join(known, ", ")}
		}
	}
	return nil
}

// Validate checks a configuration for d without I/O: its fields against the
// description, then by d itself if it is a [Validator].
func Validate(d Destination, config map[string]string) error {
	if err := d.Describe().Validate(config); err != nil {
		return err
	}
	if v, ok := d.(Validator); ok {
		return v.Validate(config)
	}
	return nil
}

// Check reports whether the description says enough to be used.
func (d Description) Check() error {
	if !safeID(d.Name) || strings.ToLower(d.Name) != d.Name {
		return fmt.Errorf("description: name %q: want lower-case letters, digits, '-' and '_'", d.Name)
	}
	if d.Version == "" {
		return errors.New("description: no version")
	}
	if len(d.Ops) == 0 {
		return errors.New("description: no operations")
	}
	for _, op := range d.Ops {
		if op != Upsert && op != Remove {
			return fmt.Errorf("description: invalid operation %d", int(op))
		}
	}
	if d.Granularity < PerRow || d.Granularity > PerBatch {
		return fmt.Errorf("description: invalid granularity %d", int(d.Granularity))
	}
	if d.MaxRows < 0 {
		return errors.New("description: negative number of rows")
	}
	names := make(map[string]bool, len(d.Config))
	for _, f := range d.Config {
		if f.Name == "" || names[f.Name] {
			return fmt.Errorf("description: field %q is there twice or has no name", f.Name)
		}
		names[f.Name] = true
	}
	if err := d.checkLimits(); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	if err := d.Target.Check(); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	return nil
}

// maxRequests is the most requests of a limit: the host keeps when each was made.
const maxRequests = 1_000_000

func (d Description) checkLimits() error {
	if len(d.Limits) > 0 && !d.Paced {
		return errors.New("limits, and requests that do not wait for them")
	}
	if len(d.Limits) > 32 {
		return errors.New("more than 32 limits")
	}
	for _, l := range d.Limits {
		switch {
		case l.Name != "" && !safeID(l.Name):
			return fmt.Errorf("limit %q: want a name of letters, digits, '-' and '_', or none", l.Name)
		case l.Requests < 1 || l.Requests > maxRequests:
			return fmt.Errorf("limit %q: want 1 to %d requests", l.Name, maxRequests)
		case l.Per < time.Millisecond || l.Per > 31*24*time.Hour:
			return fmt.Errorf("limit %q: want a time from a millisecond to a month", l.Name)
		case l.Rows < 0:
			return fmt.Errorf("limit %q: negative number of rows", l.Name)
		}
	}
	return nil
}
