package workspace

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent"
)

// readPlan reads a plan that is to be used. Warnings are for [CheckPlans].
func readPlan(path string, policy *consent.Policy) (*collector.TrackingPlan, error) {
	plan, doc, problems, err := lintPlan(path, policy)
	if err != nil {
		return nil, err
	}
	for _, problem := range problems {
		if !problem.Warning {
			doc.reportAt(problem.Path, "%s", problem.Message)
		}
	}
	return plan, errors.Join(doc.problems...)
}

func lintPlan(path string, policy *consent.Policy) (*collector.TrackingPlan, *document, []collector.Problem, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("reading a tracking plan: %w", err)
	}
	return parsePlan(path, text, policy)
}

func parsePlan(path string, text []byte, policy *consent.Policy) (*collector.TrackingPlan, *document, []collector.Problem, error) {
	plan := &collector.TrackingPlan{}
	doc, err := decode(path, text, plan)
	if err != nil {
		return nil, nil, nil, err
	}
	return plan, doc, plan.Check(policy), nil
}

// PlanProblem is something wrong with a tracking plan.
type PlanProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Warning bool   `json:"warning"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

func (p PlanProblem) String() string {
	text := p.File + ":"
	if p.Line > 0 {
		text += strconv.Itoa(p.Line) + ":"
	}
	if p.Warning {
		text += " warning:"
	}
	if p.Path != "" {
		text += " " + p.Path + ":"
	}
	return text + " " + p.Message
}

// CheckPlans looks at tracking plans, by default all that there are: those of the
// sources, and what else is in the folder tracking. It returns the files that it
// has looked at, and what is wrong with each, warnings included. The rest of the
// configuration may be wrong, but for the policy, which says what purposes there
// are.
func CheckPlans(dir string, files []string) (checked []string, problems []PlanProblem, err error) {
	w, err := read(dir)
	if err != nil {
		return nil, nil, err
	}
	if !w.loadPolicy(w.doc) {
		return nil, nil, errors.Join(w.doc.problems...)
	}
	used := make(map[string]bool)
	for _, s := range w.Sources {
		if path := w.Path(s.TrackingPlan); s.TrackingPlan != "" && !used[path] {
			used[path] = true
			checked = append(checked, path)
		}
	}
	if len(files) > 0 {
		checked = files
	} else if others, err := filepath.Glob(filepath.Join(w.Path("tracking"), "*.y*ml")); err == nil {
		for _, path := range others {
			if !used[path] {
				checked = append(checked, path)
			}
		}
	}
	for _, file := range checked {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(used)), func(path string) bool { return sameFile(path, file) }) {
			problems = append(problems, PlanProblem{
				File: file, Warning: true, Message: "no source uses this plan, so nobody can send its events: name it in " + File + " as tracking_plan of a source, or remove it",
			})
		}
		problems = append(problems, checkPlan(file, w.Policy)...)
	}
	return checked, problems, nil
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

func checkPlan(file string, policy *consent.Policy) (found []PlanProblem) {
	_, doc, problems, err := lintPlan(file, policy)
	if err != nil {
		for _, each := range unjoined(err) {
			found = append(found, located(file, each.Error()))
		}
		return found
	}
	for _, p := range problems {
		found = append(found, PlanProblem{File: file, Line: doc.line(p.Path), Warning: p.Warning, Path: strings.Join(p.Path, "."), Message: p.Message})
	}
	slices.SortStableFunc(found, func(a, b PlanProblem) int { return a.Line - b.Line })
	return found
}

// unjoined takes joined errors apart.
func unjoined(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

var atLine = regexp.MustCompile(`^:? ?(?:line )?(\d+): `)

// located finds the line in what a decoder says.
func located(file, said string) PlanProblem {
	p := PlanProblem{File: file, Message: strings.TrimPrefix(said, file)}
	if found := atLine.FindStringSubmatch(p.Message); found != nil {
		p.Line, _ = strconv.Atoi(found[1]) // digits
		p.Message = p.Message[len(found[0]):]
	}
	p.Message = strings.TrimPrefix(p.Message, ": ")
	return p
}
