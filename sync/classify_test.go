package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sluis-cdp/sluis/plugins/destination"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// TestScenarios plays the files of testdata/scenarios; its README says how to
// read them.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scenario{world: newWorld(t), sync: vips()}
			for i, section := range archive.Files {
				name, _, _ := strings.Cut(section.Name, " ")
				got := s.step(section.Name, lines(string(section.Data)))
				if !slices.Contains([]string{"plan", "run", "apply", "destination", "rebaseline", "forget", "forget!", "retry", "failures", "holdouts"}, name) {
					continue
				}
				if diff := cmp.Diff(strings.TrimSpace(string(section.Data)), strings.TrimSpace(got)); diff != "" {
					t.Errorf("step %d, %s (-want +got):\n%s", i+1, section.Name, diff)
				}
				archive.Files[i].Data = []byte(got)
			}
			if os.Getenv("UPDATE_SCENARIOS") != "" {
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func lines(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			all = append(all, fields)
		}
	}
	return all
}

type scenario struct {
	*world
	sync   syncer.Sync
	planID string
}

// step plays a section and returns what it shows.
func (s *scenario) step(title string, content [][]string) string {
	s.t.Helper()
	s.advance(time.Minute)
	name, argument, _ := strings.Cut(title, " ")
	options := syncer.Options{Approve: argument == "--approve"}
	switch name {
	case "sync":
		s.configure(content)
	case "model":
		s.setModel(customers(s.t, content)...)
	case "consent":
		allowed := map[string]bool{}
		for _, line := range content {
			allowed[line[0]] = line[1] == "yes"
		}
		s.setConsent(allowed)
	case "erased":
		for _, line := range content {
			s.exec("INSERT INTO sluis_sync.erased (id, erased_at) VALUES (?, ?)", line[0], s.clock())
		}
	case "members":
		s.exec("DELETE FROM sluis_models.account_members WHERE TRUE")
		for _, line := range content {
			s.append("sluis_models.account_members", []string{"account_id", "profile_id"}, []any{line[0], line[1]})
		}
	case "sealed":
		s.exec("DELETE FROM sluis_models.profile_sealed WHERE TRUE")
		for _, line := range content {
			s.seal(line[0], line[1], line[2], line[3])
		}
	case "answers":
		s.answers(content)
	case "later":
		after, err := time.ParseDuration(argument)
		if err != nil {
			s.t.Fatal(err)
		}
		s.advance(after)
	case "present":
		s.target.members = map[string][]any{}
		for _, c := range customers(s.t, content) {
			s.target.members[c.key] = []any{c.tier, c.visits}
		}
	case "rebaseline", "forget", "forget!":
		return s.assume(name, strings.Fields(argument))
	case "retry":
		n, err := s.engine().Retry(context.Background(), s.sync, argument)
		s.target.last = map[string]sent{} // whoever asks for it has looked at the destination
		return fmt.Sprintln(n, "due again", errText(err))
	case "failures":
		return s.showFailures()
	case "holdouts":
		return s.showHoldouts()
	case "resync":
		if err := s.engine().Resync(context.Background(), s.sync); err != nil {
			s.t.Error(err)
		}
	case "plan":
		p, err := s.engine().Plan(context.Background(), s.sync)
		s.planID = p.ID
		return showPlan(p, err)
	case "apply":
		r, err := s.engine().Apply(context.Background(), s.sync, s.planID, options)
		return s.showRun(r, err)
	case "run":
		r, err := s.engine().Run(context.Background(), s.sync, options)
		return s.showRun(r, err)
	case "destination":
		return s.target.content()
	default:
		s.t.Fatalf("unknown section %q", title)
	}
	return ""
}

func (s *scenario) configure(content [][]string) {
	for _, line := range content {
		switch line[0] {
		case "mode":
			s.sync.Mode = syncer.Mode(line[1])
		case "model":
			s.sync.Model = line[1]
		case "min_removed":
			s.sync.Guards.MinRemoved, _ = strconv.ParseInt(line[1], 10, 64)
		case "min_size":
			s.sync.Guards.MinSize, _ = strconv.ParseInt(line[1], 10, 64)
		case "refresh":
			s.sync.Refresh, _ = time.ParseDuration(line[1])
		case "accounts":
			s.sync.Profile = s.sync.Key
			s.sync.Members.Model = "account_members"
			s.sync.Members.Consenting, _ = strconv.ParseInt(line[1], 10, 64)
		case "holdout":
			share, _ := strconv.ParseFloat(line[1], 64)
			s.sync.Holdout = syncer.Holdout{Share: share, Seed: "seed", Column: line[2]}
		case "not_idempotent":
			s.target.notIdempotent = true
		case "no_updates":
			s.target.noUpdates = true
		case "mapping":
			s.sync.Mapping = nil
			for i, word := range line[1:] {
				field, source, _ := strings.Cut(word, "=")
				kind, from, _ := strings.Cut(source, ":")
				from, required := strings.CutSuffix(from, "!")
				f := syncer.Field{Field: field, Required: required, Line: 10 + i}
				switch kind {
				case "column":
					f.Column = from
				case "sealed":
					f.Sealed = from
				case "value":
					f.Value = &from
				}
				s.sync.Mapping = append(s.sync.Mapping, f)
			}
		default:
			s.t.Fatalf("unknown setting %q", line[0])
		}
	}
}

// assume plays what an operator says of the destination.
func (s *scenario) assume(name string, keys []string) string {
	if name == "rebaseline" {
		r, err := s.engine().Rebaseline(context.Background(), s.sync, keys)
		return s.showRun(r, err)
	}
	f, err := s.engine().ForgetRows(context.Background(), s.sync, keys, name == "forget!")
	return fmt.Sprintf("rows=%d gone=%d kept=%d done=%t %s\n", f.Rows, f.Gone, f.Kept, f.Done, errText(err))
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return "error: " + err.Error()
}

func (s *scenario) showFailures() string {
	failures, err := s.engine().Failures(context.Background(), s.sync.Name)
	if err != nil {
		return errText(err)
	}
	var b strings.Builder
	for _, f := range failures {
		fmt.Fprintf(&b, "%s %s x%d, such as %s: %s\n", f.Status, f.Code, f.Rows, f.Key, f.Message)
	}
	return b.String()
}

func (s *scenario) showHoldouts() string {
	var b strings.Builder
	for _, row := range s.query("SELECT key, held_out FROM sluis_sync.holdouts ORDER BY key") {
		fmt.Fprintln(&b, row...)
	}
	return b.String()
}

func customers(t testing.TB, content [][]string) []customer {
	var rows []customer
	for _, line := range content {
		if len(line) < 4 {
			t.Fatalf("a row needs four values, and has %v", line)
		}
		visits, err := strconv.ParseInt(line[3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		c := customer{line[0], line[1], line[2], visits}
		if c.key == "NULL" {
			c.key = ""
		}
		switch line[2] {
		case "NULL":
			c.tier = nil
		case "EMPTY":
			c.tier = ""
		}
		rows = append(rows, c)
	}
	return rows
}

// answers makes the destination give keys an outcome of their own.
func (s *scenario) answers(content [][]string) {
	outcomes := map[string]destination.Result{}
	for _, line := range content {
		r := destination.Result{Code: line[1] + "_by_test", Message: "because of " + line[0]}
		switch line[1] {
		case "rejected":
			r.Outcome = destination.Rejected
		case "retry":
			r.Outcome = destination.Retry
		case "unknown":
			r.Outcome = destination.Unknown
		case "skipped":
			r.Outcome = destination.Skipped
		case "accepted":
			r.Outcome = destination.Accepted
		default:
			s.t.Fatalf("unknown outcome %q", line[1])
		}
		outcomes[line[0]] = r
	}
	s.target.answer = func(batch destination.Batch, apply func(destination.Change)) ([]destination.Result, error) {
		results, _ := deliverAll(batch, func(c destination.Change) {
			if r, ok := outcomes[c.Key]; !ok || r.Outcome == destination.Unknown || r.Outcome == destination.Accepted {
				apply(c)
			}
		})
		for i, c := range batch.Changes {
			if r, ok := outcomes[c.Key]; ok {
				results[i] = r
			}
		}
		return results, nil
	}
}

var planName = regexp.MustCompile(`p-\d{8}T\d{6}-\w+`)

func showPlan(p syncer.Plan, err error) string {
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintln(&b, c.Op, c.Key, c.Reason)
	}
	if p.Mapping != nil {
		fmt.Fprintf(&b, "%d for the mapping: %s\n", p.Mapping.Rows, strings.Join(p.Mapping.Fields, "; "))
	}
	refresh := ""
	if p.Counts.Refresh > 0 {
		refresh = fmt.Sprintf("refresh=%d ", p.Counts.Refresh)
	}
	fmt.Fprintf(&b, "add=%d update=%d %sremove=%d hold=%d unchanged=%d\n", p.Counts.Add, p.Counts.Update, refresh, p.Counts.Remove, p.Counts.Hold, p.Counts.Unchanged)
	if p.Held != nil {
		fmt.Fprintln(&b, "held:", planName.ReplaceAllString(p.Held.Error(), "PLAN"))
	}
	return b.String()
}

func (s *scenario) showRun(r syncer.Run, err error) string {
	var b strings.Builder
	if r.ID != "" {
		refreshed := ""
		if r.Refreshed > 0 {
			refreshed = fmt.Sprintf("refreshed=%d ", r.Refreshed)
		}
		fmt.Fprintf(&b, "added=%d updated=%d %sremoved=%d failed=%d skipped=%d held=%d\n", r.Added, r.Updated, refreshed, r.Removed, r.Failed, r.Skipped, r.Held)
		counts := map[string]int{}
		for _, d := range s.query("SELECT key, op, reason, outcome, code FROM sluis_sync.deliveries WHERE run_id = ? ORDER BY seq, intent", r.ID) {
			counts[fmt.Sprint(d[0], " ", d[1], " ", d[2], ": ", d[3], " ", d[4])]++
		}
		for _, line := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, "%s x%d\n", strings.TrimSpace(line), counts[line])
		}
	}
	if err != nil {
		if held, ok := errors.AsType[*syncer.HeldError](err); ok {
			fmt.Fprintln(&b, "held", held.Removals, "of", held.Present)
		} else {
			fmt.Fprintln(&b, "error:", planName.ReplaceAllString(err.Error(), "PLAN"))
		}
	}
	return b.String()
}
