package destination

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Target says which fields the outside system takes. The zero value takes any.
type Target struct {
	Fields []TargetField
	// Closed: fields beside these are refused.
	Closed bool
}

// TargetField is a field of the outside system that a column may be mapped to.
type TargetField struct {
	Name string
	// Types that it takes; none means any.
	Types    []Type
	Required bool // a mapping without it cannot be sent
	// Form is what the host brings a value into before the destination sees it,
	// such as "meta.email": normalised and hashed as the outside system
	// documents; package normalize has them all. Values of a field with a form
	// are strings in it, or nil. Only a Description may name forms, since they
	// hold whatever the configuration is.
	Form string
	Help string // one sentence for the person who maps it
	// Identifies: the outside system knows somebody by this value and cannot be
	// told the key. The host keeps, sealed, what it sent, until the key is removed,
	// and gives it back as [Change.Former]: or nobody could be taken out again.
	Identifies bool
}

// TargetDescriber is a [Destination] whose outside system says which fields it
// takes: a database its columns, a CRM its properties. DescribeTarget changes
// nothing there. It is called after Open.
type TargetDescriber interface {
	DescribeTarget(ctx context.Context) (Target, error)
}

// Check reports whether the fields can be mapped to.
func (t Target) Check() error {
	names := make(map[string]bool, len(t.Fields))
	for _, f := range t.Fields {
		if f.Name == "" || names[f.Name] {
			return fmt.Errorf("target field %q is there twice or has no name", f.Name)
		}
		names[f.Name] = true
		for _, kind := range f.Types {
			if kind < String || kind > Time {
				return fmt.Errorf("target field %q has the invalid type %d", f.Name, int(kind))
			}
		}
	}
	return nil
}

// MappingError says which column of a mapping the target does not take; Column
// is empty if one is missing.
type MappingError struct {
	Column  string
	Problem string
}

func (e *MappingError) Error() string {
	if e.Column == "" {
		return e.Problem
	}
	return e.Column + ": " + e.Problem
}

// CheckColumns compares the columns of a mapping with what the target takes.
// Everything that is wrong is in the error, each a [*MappingError]. A column of
// type 0 has a type that is not known, and fits any.
func (t Target) CheckColumns(columns []Column) error {
	var problems []error
	wrong := func(column, format string, args ...any) {
		problems = append(problems, &MappingError{Column: column, Problem: fmt.Sprintf(format, args...)})
	}
	mapped := make(map[string]bool, len(columns))
	for _, c := range columns {
		mapped[c.Name] = true
		i := slices.IndexFunc(t.Fields, func(f TargetField) bool { return f.Name == c.Name })
		switch {
		case i < 0 && t.Closed:
			wrong(c.Name, "there is no such field; there are %s", t.names())
		case i >= 0 && c.Type != 0 && len(t.Fields[i].Types) > 0 && !slices.Contains(t.Fields[i].Types, c.Type):
			wrong(c.Name, "is of type %v there, and the column's is %v: cast it in the model", t.Fields[i].Types, c.Type)
		}
	}
	for _, f := range t.Fields {
		if f.Required && !mapped[f.Name] {
			wrong("", "the field %s is required there, and nothing is mapped to it", f.Name)
		}
	}
	return errors.Join(problems...)
}

// names lists the fields, but not hundreds of them.
func (t Target) names() string {
	const most = 30
	var names []string
	for _, f := range t.Fields {
		if len(names) == most {
			return strings.Join(names, ", ") + " and more"
		}
		names = append(names, f.Name)
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}
