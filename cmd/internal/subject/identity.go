package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Identity says why identifiers are, or are not, one person's.
type Identity struct {
	Profiles []IdentityProfile `json:"profiles"`
	// Aliases are other ids that lead to these profiles.
	Aliases []string `json:"aliases"`
	// Nodes are the identifiers of the profiles.
	Nodes []IdentityNode `json:"nodes"`
	// Edges are the links that join them; Rejected those of theirs that may be used
	// and join nobody; Cut those that somebody's refusal to be recognised takes away.
	Edges    []Link `json:"edges"`
	Rejected []Link `json:"rejected"`
	Cut      []Link `json:"cut"`
	// Shared are those of these identifiers that are hardly one person's.
	Shared []SharedNode `json:"shared"`
	// Changes are what runs of the models found, the first first.
	Changes []IdentityChange `json:"changes"`
	// More tells, by the lists' names, how many there are of which not all are here.
	More map[string]int64 `json:"more,omitempty"`
}

// IdentityProfile is a profile and the identifier that it is named after.
type IdentityProfile struct {
	ID      string `json:"profile_id"`
	Founder string `json:"founder"`
}

// IdentityNode is an identifier.
type IdentityNode struct {
	Pseudonym string    `json:"pseudonym"`
	Kind      string    `json:"kind"`
	Profile   string    `json:"profile_id"`
	FirstSeen time.Time `json:"first_seen_at"`
	LastSeen  time.Time `json:"last_seen_at"`
	Events    int64     `json:"events"`
	Given     bool      `json:"given"`
	// Recognised is what it said about being recognised, nil if nothing.
	Recognised *bool      `json:"recognised"`
	DecidedAt  *time.Time `json:"decided_at,omitempty"`
}

// Link is a pair of identifiers that were seen together.
type Link struct {
	Between   [2]string `json:"between"`
	Kinds     [2]string `json:"kinds"`
	Declared  bool      `json:"declared,omitempty"`
	Tier      *int64    `json:"tier,omitempty"`
	FirstSeen time.Time `json:"first_seen_at"`
	LastSeen  time.Time `json:"last_seen_at"`
	Events    int64     `json:"events"`
	Reason    string    `json:"reason,omitempty"`
	Limit     string    `json:"limited_kind,omitempty"`
	RefusedBy []string  `json:"refused_by,omitempty"`
	// Profiles are those that its ends belong to, if it joins nobody.
	Profiles []string `json:"profiles,omitempty"`
}

// SharedNode is an identifier that is hardly one person's.
type SharedNode struct {
	Pseudonym string `json:"pseudonym"`
	Kind      string `json:"kind"`
	Reason    string `json:"reason"`
	Of        string `json:"neighbour_kind"`
	Degree    int64  `json:"degree"`
	Most      int64  `json:"max_neighbours"`
	Policy    string `json:"policy"`
}

// IdentityChange is a move of an identifier from one profile to another. What is
// no more is empty.
type IdentityChange struct {
	At        time.Time `json:"noticed_at"`
	Pseudonym string    `json:"pseudonym"`
	Kind      string    `json:"kind"`
	From      string    `json:"from_profile_id,omitempty"`
	To        string    `json:"to_profile_id,omitempty"`
}

// shownLinks are how many rows of a list an answer has: a mailbox that thousands
// have is linked to all of them.
const shownLinks = 100

// ExplainIdentity tells what the models, as they were built last, make one person
// of, and by what evidence.
func (s *Subjects) ExplainIdentity(ctx context.Context, g Given) (e Identity, err error) {
	given, err := s.pseudonymsOf(ctx, g)
	if err != nil {
		return e, err
	}
	e = Identity{
		Profiles: []IdentityProfile{}, Aliases: []string{}, Nodes: []IdentityNode{}, Shared: []SharedNode{}, Changes: []IdentityChange{},
	}
	err = s.with(ctx, func(d warehouse.Driver) error {
		if _, err := d.Columns(ctx, warehouse.SchemaModels, "identity_changes"); errors.Is(err, warehouse.ErrNoRelation) {
			return fmt.Errorf("%w table of the models of identity: build them first, with `sluis models run`", ErrUnknown)
		} else if err != nil {
			return fmt.Errorf("reading the models of identity: %w", err)
		}
		x := identityReader{ctx: ctx, d: d, e: &e}
		x.nodes(given)
		x.links()
		x.shared()
		x.changes()
		return x.err
	})
	return e, err
}

// identityReader fills an Identity. The first error stays.
type identityReader struct {
	ctx context.Context // it lives for one call
	d   warehouse.Driver
	e   *Identity
	err error
	own []string // the pseudonyms of the profiles
	ids []string // of the profiles
}

// read reads at most so many rows as are shown, and counts them all.
func (x *identityReader) read(list, query, order string, with ...any) []Row {
	if x.err != nil {
		return nil
	}
	rows, err := rowsOf(x.ctx, x.d, fmt.Sprintf("SELECT * FROM (%s) AS found ORDER BY %s LIMIT %d", query, order, shownLinks+1), with...)
	if err == nil && len(rows) > shownLinks {
		var all [][]any
		all, err = warehouse.Collect(x.ctx, x.d, "SELECT COUNT(*) FROM ("+query+") AS found", with...)
		if err == nil {
			if x.e.More == nil {
				x.e.More = make(map[string]int64)
			}
			x.e.More[list], _ = all[0][0].(int64)
			rows = rows[:shownLinks]
		}
	}
	x.err = wrapped("reading the models of identity", err)
	return rows
}

func (x *identityReader) nodes(given []string) {
	in := places(len(given))
	rows := x.read("nodes", `SELECT n.node_key, n.id_type, n.first_seen_at, n.last_seen_at, n.n_events, m.profile_id, m.founder_node, c.granted, c.decided_at
		FROM sluis_models.identity_map AS m
		JOIN sluis_models.identity_nodes AS n ON n.node_key = m.node_key
		LEFT JOIN sluis_models.consent_node_state AS c ON c.node_key = m.node_key AND c.purpose = 'identity'
		WHERE m.profile_id IN (SELECT profile_id FROM sluis_models.identity_map WHERE node_key IN (`+in+`))`,
		"profile_id, id_type, first_seen_at, node_key", args(given)...)
	for _, r := range rows {
		n := IdentityNode{
			Pseudonym: text(r["node_key"]), Kind: text(r["id_type"]), Profile: text(r["profile_id"]),
			FirstSeen: at(r["first_seen_at"]), LastSeen: at(r["last_seen_at"]), Events: number(r["n_events"]),
			Given: slices.Contains(given, text(r["node_key"])),
		}
		if granted, ok := r["granted"].(bool); ok {
			decided := at(r["decided_at"])
			n.Recognised, n.DecidedAt = &granted, &decided
		}
		x.e.Nodes = append(x.e.Nodes, n)
		x.own = append(x.own, n.Pseudonym)
		if !slices.Contains(x.ids, n.Profile) {
			x.ids = append(x.ids, n.Profile)
			x.e.Profiles = append(x.e.Profiles, IdentityProfile{n.Profile, text(r["founder_node"])})
		}
	}
	for _, r := range x.read("aliases", "SELECT DISTINCT alias_id FROM sluis_models.identity_aliases WHERE profile_id IN ("+places(len(x.ids))+")", "alias_id", args(x.ids)...) {
		x.e.Aliases = append(x.e.Aliases, text(r["alias_id"]))
	}
}

func (x *identityReader) links() {
	in, own := places(len(x.own)), args(x.own)
	const newest = "last_seen_at DESC, node_a, node_b"
	x.e.Edges = linksOf(x.read("edges", `SELECT e.* FROM sluis_models.identity_edges AS e
		LEFT JOIN sluis_models.identity_rejected_edges AS r ON r.node_a = e.node_a AND r.node_b = e.node_b
		WHERE r.node_a IS NULL AND e.node_a IN (`+in+`)`, "tier, "+newest, own...))
	x.e.Rejected = linksOf(x.read("rejected", `SELECT r.*, a.profile_id AS profile_a, b.profile_id AS profile_b FROM sluis_models.identity_rejected_edges AS r
		JOIN sluis_models.identity_map AS a ON a.node_key = r.node_a
		JOIN sluis_models.identity_map AS b ON b.node_key = r.node_b
		WHERE r.node_a IN (`+in+`) OR r.node_b IN (`+in+`)`, newest, slices.Concat(own, own)...))
	x.e.Cut = linksOf(x.read("cut", `SELECT l.*, CASE WHEN NOT a.granted THEN l.node_a END AS refused_a, CASE WHEN NOT b.granted THEN l.node_b END AS refused_b
		FROM sluis_models.identity_links AS l
		LEFT JOIN sluis_models.identity_edges AS e ON e.node_a = l.node_a AND e.node_b = l.node_b
		LEFT JOIN sluis_models.consent_node_state AS a ON a.node_key = l.node_a AND a.purpose = 'identity'
		LEFT JOIN sluis_models.consent_node_state AS b ON b.node_key = l.node_b AND b.purpose = 'identity'
		WHERE e.node_a IS NULL AND (l.node_a IN (`+in+`) OR l.node_b IN (`+in+`))`, newest, slices.Concat(own, own)...))
}

func linksOf(rows []Row) []Link {
	all := []Link{}
	for _, r := range rows {
		l := Link{
			Between: [2]string{text(r["node_a"]), text(r["node_b"])}, Kinds: [2]string{text(r["kind_a"]), text(r["kind_b"])},
			FirstSeen: at(r["first_seen_at"]), LastSeen: at(r["last_seen_at"]), Events: number(r["n_events"]),
			Reason: text(r["reason"]), Limit: text(r["limited_kind"]),
		}
		l.Declared, _ = r["is_declared"].(bool)
		if tier, ok := r["tier"].(int64); ok {
			l.Tier = &tier
		}
		l.RefusedBy = present(r, "refused_a", "refused_b")
		l.Profiles = present(r, "profile_a", "profile_b")
		all = append(all, l)
	}
	return all
}

// present are the texts of columns that are not NULL.
func present(r Row, columns ...string) []string {
	var all []string
	for _, column := range columns {
		if value, ok := r[column]; ok {
			all = append(all, text(value))
		}
	}
	return all
}

func (x *identityReader) shared() {
	nodes := slices.Clone(x.own)
	for _, l := range x.e.Rejected {
		nodes = append(nodes, l.Between[0], l.Between[1])
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	for _, r := range x.read("shared", "SELECT * FROM sluis_models.identity_shared_nodes WHERE node_key IN ("+places(len(nodes))+")", "node_key, neighbour_kind", args(nodes)...) {
		x.e.Shared = append(x.e.Shared, SharedNode{
			Pseudonym: text(r["node_key"]), Kind: text(r["id_type"]), Reason: text(r["reason"]), Of: text(r["neighbour_kind"]),
			Degree: number(r["degree"]), Most: number(r["max_neighbours"]), Policy: text(r["policy"]),
		})
	}
}

func (x *identityReader) changes() {
	in, ids := places(len(x.own)), places(len(x.ids))
	for _, r := range x.read("changes", `SELECT run, noticed_at, node_key, kind, from_profile_id, to_profile_id FROM sluis_models.identity_changes
		WHERE node_key IN (`+in+`) OR from_profile_id IN (`+ids+`) OR to_profile_id IN (`+ids+`)`, "run, node_key",
		slices.Concat(args(x.own), args(x.ids), args(x.ids))...) {
		x.e.Changes = append(x.e.Changes, IdentityChange{
			At: at(r["noticed_at"]), Pseudonym: text(r["node_key"]), Kind: text(r["kind"]), From: text(r["from_profile_id"]), To: text(r["to_profile_id"]),
		})
	}
}

func at(value any) time.Time { t, _ := value.(time.Time); return t }

func number(value any) int64 { n, _ := value.(int64); return n }

// WritePage writes the explanation for people to read.
func (e Identity) WritePage(w io.Writer) error {
	p := &page{w: w}
	if len(e.Nodes) == 0 {
		p.line("Nothing is known of this person: the models have no such identifier.")
		return p.err
	}
	for _, profile := range e.Profiles {
		p.line("The profile %s is named after %s, which was seen first.", profile.ID, profile.Founder)
	}
	for _, alias := range e.Aliases {
		p.line("The id %s leads there, too.", alias)
	}
	p.heading("Identifiers", len(e.Nodes))
	for _, n := range e.Nodes {
		p.line("  %-13s %s, %s%s%s", n.Kind, n.Pseudonym, seenOn(n.Events, n.FirstSeen, n.LastSeen), recognised(n), mark(n.Given, ", named by who asks"))
	}
	p.links("Links that join them", e.Edges, func(l Link) string { return mark(l.Declared, ": declared to be one") })
	p.links("Links that join nobody", e.Rejected, func(l Link) string { return ": " + whyRejected(l) })
	p.links("Links that consent cuts", e.Cut, func(l Link) string {
		if len(l.RefusedBy) == 0 {
			return ": an identifier of a kind that joins nobody any more"
		}
		return fmt.Sprintf(": %s refuses to be recognised", l.RefusedBy[0])
	})
	p.heading("Identifiers that are hardly one person's", len(e.Shared))
	for _, n := range e.Shared {
		if n.Reason == "blocked" {
			p.line("  %-13s %s: it is listed in identity_blocked", n.Kind, n.Pseudonym)
			continue
		}
		p.line("  %-13s %s: seen with %d of the kind %s, where %d may be (%s)", n.Kind, n.Pseudonym, n.Degree, n.Of, n.Most, n.Policy)
	}
	p.heading("Changes", len(e.Changes))
	for _, c := range e.Changes {
		p.line("  %s: %s %s, from %s to %s", c.At.Format(time.RFC3339), orGone(c.Pseudonym), c.Kind, orGone(c.From), orGone(c.To))
	}
	for _, list := range []string{"nodes", "aliases", "edges", "rejected", "cut", "shared", "changes"} {
		if n, ok := e.More[list]; ok {
			p.line("\nOf %d %s the first %d are shown.", n, list, shownLinks)
		}
	}
	return p.err
}

func (p *page) links(title string, links []Link, why func(Link) string) {
	p.heading(title, len(links))
	for _, l := range links {
		p.line("  %s – %s, %s%s", l.Between[0], l.Between[1], seenOn(l.Events, l.FirstSeen, l.LastSeen), why(l))
	}
}

func seenOn(events int64, first, last time.Time) string {
	if events == 1 {
		return "on one event of " + first.Format(time.RFC3339)
	}
	return fmt.Sprintf("on %d events from %s to %s", events, first.Format(time.RFC3339), last.Format(time.RFC3339))
}

func recognised(n IdentityNode) string {
	switch {
	case n.Recognised == nil:
		return ", never said whether it may be recognised"
	case *n.Recognised:
		return ", agrees to be recognised"
	}
	return ", refuses to be recognised since " + n.DecidedAt.Format(time.RFC3339)
}

// whyRejected says the reason of a link of identity_rejected_edges.
func whyRejected(l Link) string {
	switch l.Reason {
	case "blocked":
		return "one of them is blocked"
	case "shared":
		return "one of them is shared"
	case "superseded":
		return "newer ones took its place"
	case "same_kind":
		return "two of one kind, which nobody declared to be one"
	case "profile_limit":
		return "the profiles " + joined(l.Profiles) + " would have too many of the kind " + l.Limit + " together"
	case "profile_size":
		return "the profiles " + joined(l.Profiles) + " would be too large together"
	}
	return l.Reason
}

func joined(profiles []string) string {
	if len(profiles) != 2 {
		return ""
	}
	return profiles[0] + " and " + profiles[1]
}

func orGone(name string) string {
	if name == "" {
		return "what is no more"
	}
	return name
}
