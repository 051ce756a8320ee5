package runner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is something in a project that keeps it from running.
type Problem struct {
	Path    string // within the project
	Line    int    // from 1; zero if it is about the whole file
	Message string // what is wrong and what to do
}

func (p Problem) Error() string {
	switch {
	case p.Path == "":
		return p.Message
	case p.Line == 0:
		return p.Path + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Message)
}

// Problems are all that were found, by file and line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// err returns nil if there are none. It sorts them and drops doubles.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(p)
}
