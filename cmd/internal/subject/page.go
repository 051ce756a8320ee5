package subject

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// page writes a plain page of text. The first error stays.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, values ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", values...)
	}
}

func (p *page) heading(title string, n int) {
	p.line("\n%s (%d)\n%s", title, n, strings.Repeat("─", len([]rune(title))+len(fmt.Sprint(n))+3))
}

// WritePage writes the export for people to read.
func (e Export) WritePage(w io.Writer) error {
	p := &page{w: w}
	p.line("What %s holds about a person, as of %s", e.Workspace, e.At.Format(time.RFC3339))
	p.heading("Identifiers", len(e.Identifiers))
	for _, id := range e.Identifiers {
		p.line("  %-13s %s%s%s", id.Kind, id.Pseudonym, mark(id.Given, ", named by who asks"), mark(id.Erased, ", erased"))
	}
	p.heading("Erasures", len(e.Erasures))
	for _, r := range e.Erasures {
		if r.CompletedAt.IsZero() {
			p.line("  Request %s; its receipt is kept elsewhere.", r.Request)
			continue
		}
		p.line("  Request %s, completed at %s; nobody can bring it back after %s.", r.Request, r.CompletedAt.Format(time.RFC3339), r.IrrecoverableAt.Format(time.RFC3339))
	}
	p.heading("Personal data, sealed", len(e.Sealed))
	for _, v := range e.Sealed {
		value := v.Value
		if v.Unreadable != "" {
			value = "[" + v.Unreadable + "]"
		}
		p.line("  %s: %s (for the purpose %s, received %s, decision %s)", v.Field, value, v.Purpose, v.ReceivedAt.Format(time.RFC3339), v.Decision)
	}
	p.rows("Choices on record", e.Consents, "decided_at", "purpose", "granted", "signal")
	p.rows("Events", e.Events, "occurred_at", "type", "event")
	p.heading("Events set aside, since they broke a rule", len(e.Quarantine))
	for _, q := range e.Quarantine {
		p.line("  %s, from %s: %s\n    %s", q.ReceivedAt.Format(time.RFC3339), q.Source, q.Reason, q.Message)
	}
	p.heading("Audiences", len(e.Audiences))
	for _, name := range e.Audiences {
		p.line("  %s", name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Models)) {
		p.rows("Model "+name, e.Models[name])
	}
	p.rows("What destinations have", e.Syncs, "sync", "destination", "status")
	p.rows("What was sent", e.Deliveries, "recorded_at", "sync", "destination", "op", "reason", "outcome")
	p.heading("Seen in the same events, without consent that links them; perhaps of somebody else", len(e.Seen))
	for _, other := range e.Seen {
		p.line("  %-13s %s, in %d events", other.Kind, other.Pseudonym, other.Events)
	}
	p.line("\nTo know")
	for _, note := range e.Notes {
		p.line("  %s", note)
	}
	return p.err
}

func mark(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

// rows writes each row with some columns first, and then all others that it has.
func (p *page) rows(title string, rows []Row, first ...string) {
	p.heading(title, len(rows))
	for _, row := range rows {
		var head, rest []string
		for _, name := range first {
			if value, ok := row[name]; ok {
				head = append(head, written(value))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(row)) {
			if !slices.Contains(first, name) {
				rest = append(rest, name+": "+written(row[name]))
			}
		}
		if len(head) > 0 {
			p.line("  %s\n    %s", strings.Join(head, "  "), strings.Join(rest, ", "))
		} else {
			p.line("  %s", strings.Join(rest, ", "))
		}
	}
}

// written is a value for people.
func written(value any) string {
	switch v := value.(type) {
	case nil:
		return "none"
	case time.Time:
		return v.Format(time.RFC3339)
	case string:
		return v
	case json.RawMessage:
		return string(v)
	}
	content, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(content)
}
