package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func consentVerifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify the record of consent: signatures, order, and that nothing is missing",
		Description: "Says which rows of sluis.consents were changed, removed, added, or erased by nobody who may; then it\n" +
			"fails. With an anchor, it also says whether what an earlier verification has seen is still there: keep that\n" +
			"file where nobody who can write to the warehouse reaches it, such as in git. It is written after a\n" +
			"verification that found nothing. Without one, rows that were cut off at the end of the record do not show.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "anchor", Usage: "verify against this `FILE`, and write it anew"},
			jsonFlag(),
		},
		Action: verifyConsents,
	}
}

// recordColumns are those of sluis.consents that package record knows, in the order
// in which recordRow reads them.
const recordColumns = `decision_id, pseudonym, purpose, granted, signal, signal_digest, policy_version, region, source_id,
	decided_at, received_at, notice, expires_at, chain, link, link_row, link_rows, previous, salt, row_digest, key_id, signature,
	erasure_id, erasure_signature`

func recordRow(values []any) record.Row {
	text := func(i int) string { s, _ := values[i].(string); return s }
	number := func(i int) int64 { n, _ := values[i].(int64); return n }
	at := func(i int) time.Time { t, _ := values[i].(time.Time); return t.UTC() }
	granted, _ := values[3].(bool)
	return record.Row{
		DecisionID: text(0), Pseudonym: text(1), Purpose: text(2), Granted: granted, Signal: text(4), SignalDigest: text(5),
		PolicyVersion: text(6), Region: text(7), SourceID: text(8), DecidedAt: at(9), ReceivedAt: at(10), Notice: text(11), ExpiresAt: at(12),
		Place: record.Place{Chain: text(13), Link: number(14), LinkRow: number(15)}, LinkRows: number(16),
		Previous: text(17), Salt: text(18), Digest: text(19), KeyID: text(20), Signature: text(21), ErasureID: text(22), ErasureSignature: text(23),
	}
}

func verifyConsents(c *cli.Context) (err error) {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	anchor, err := readAnchor(c.String("anchor"), w.Workspace)
	if err != nil {
		return err
	}
	verifier, err := newVerifier(c.Context, w)
	if err != nil {
		return err
	}
	db, err := openWarehouse(c.Context, w, "sluis consent verify", c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	report, err := verifyTable(c.Context, db, verifier, anchor)
	if err != nil {
		return fmt.Errorf("verifying the record of consent: %w", err)
	}
	if err := printReport(c.App.Writer, report, c.Bool("json")); err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return errReported
	}
	return writeAnchor(c.String("anchor"), w.Workspace, report)
}

// newVerifier has all versions of the keys.
func newVerifier(ctx context.Context, w *workspace.Workspace) (*record.Verifier, error) {
	keysOf := func(name string) (record.Keys, error) {
		seeds, err := seal.Every(ctx, seal.Dir(w.Path(w.Keys)), name)
		if err != nil {
			return nil, fmt.Errorf("loading the key %s: %w", name, err)
		}
		return record.KeysOf(seeds...)
	}
	collectors, err := keysOf(seal.KeyRecord)
	rights, err2 := keysOf(seal.KeyRights)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return record.NewVerifier(w.Workspace, collectors, rights), nil
}

func verifyTable(ctx context.Context, db warehouse.Driver, v *record.Verifier, a anchor) (record.Report, error) {
	for _, head := range a.Heads {
		v.Expect(head, "the anchor")
	}
	begun, err := warehouse.Collect(ctx, db, `select distinct chain, previous from sluis.consents where link = 1 and chain is not null and previous is not null order by 1, 2`)
	if err != nil {
		return record.Report{}, err
	}
	for _, row := range begun {
		v.ExpectPrevious(row[0].(string), row[1].(string))
	}
	rows, err := db.Query(ctx, `select `+recordColumns+` from sluis.consents order by chain, link, link_row`)
	if err != nil {
		return record.Report{}, err
	}
	for rows.Next() {
		v.Add(recordRow(rows.Row()))
	}
	return v.Finish(), errors.Join(rows.Err(), rows.Close())
}

// anchor is what a verification has seen.
type anchor struct {
	Workspace string        `json:"workspace"`
	At        time.Time     `json:"verified_at"`
	Rows      int64         `json:"rows"`
	Heads     []record.Head `json:"heads"`
}

// readAnchor is empty if there is none yet.
func readAnchor(file, workspace string) (a anchor, err error) {
	if file == "" {
		return a, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("reading the anchor: %w", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s: not an anchor: %w; name a file that does not exist to begin one", file, err)
	}
	if a.Workspace != workspace {
		return a, fmt.Errorf("%s: the anchor is of the workspace %q", file, a.Workspace)
	}
	return a, nil
}

func writeAnchor(file, workspace string, report record.Report) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(anchor{workspace, time.Now().UTC(), report.Rows, report.Heads}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the anchor: %w", err)
	}
	aside := file + ".tmp"
	if err := os.WriteFile(aside, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the anchor: %w", err)
	}
	if err := os.Rename(aside, file); err != nil {
		return fmt.Errorf("writing the anchor: %w", err)
	}
	return nil
}

func printReport(w io.Writer, r record.Report, asJSON bool) error {
	type problem struct {
		Chain   string `json:"chain,omitempty"`
		Link    int64  `json:"link,omitempty"`
		LinkRow *int64 `json:"link_row,omitempty"`
		Text    string `json:"problem"`
	}
	if asJSON {
		problems := []problem{}
		for _, p := range r.Problems {
			told := problem{Chain: p.Chain, Link: p.Link, Text: p.Text}
			if p.LinkRow >= 0 && p.Link > 0 {
				told.LinkRow = &p.LinkRow
			}
			problems = append(problems, told)
		}
		return printJSON(w, map[string]any{
			"verified": len(problems) == 0, "rows": r.Rows, "erased": r.Erased, "links": r.Links, "chains": r.Chains,
			"heads": append([]record.Head{}, r.Heads...), "problems": problems, "more_problems": r.More,
		})
	}
	for _, p := range r.Problems {
		fmt.Fprintln(w, p)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	fmt.Fprintf(w, "%d rows in %d links of %d chains, %d of them erased: ", r.Rows, r.Links, r.Chains, r.Erased)
	if n := int64(len(r.Problems)) + r.More; n > 0 {
		fmt.Fprintf(w, "%d problems\n", n)
		return nil
	}
	fmt.Fprintln(w, "nothing was changed, and nothing between them is missing")
	return nil
}

func consentReceiptsCommand() *cli.Command {
	return &cli.Command{
		Name: "receipts", Usage: "the consent receipts of a person",
		Description: "By any of the ids that the person chose with, and those that the models, as last built, link to them.\n" +
			"As JSON they have the shape of ISO/IEC TS 27560, in the W3C's Data Privacy Vocabulary. Whether who asks\n" +
			"is that person is for you to know.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "email", Usage: "an e-mail address"},
			&cli.StringFlag{Name: "phone", Usage: "a phone number"},
			&cli.StringFlag{Name: "user-id", Usage: "a user id"},
			&cli.StringFlag{Name: "anonymous-id", Usage: "an id of a device"},
			jsonFlag(),
		},
		Action: consentReceipts,
	}
}

// personFlags are the flags that name a person, by the kind of identifier.
var personFlags = []struct {
	flag string
	kind seal.Kind
}{{"email", seal.Email}, {"phone", seal.Phone}, {"user-id", seal.UserID}, {"anonymous-id", seal.AnonymousID}}

func consentReceipts(c *cli.Context) (err error) {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	pseudonyms, err := pseudonymsOf(c, w)
	if err != nil {
		return err
	}
	db, err := openWarehouse(c.Context, w, "sluis consent receipts", c.App.ErrWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if pseudonyms, err = withLinked(c.Context, db, pseudonyms); err != nil {
		return fmt.Errorf("finding the person's identifiers: %w", err)
	}
	values, err := warehouse.Collect(c.Context, db, `select `+recordColumns+` from sluis.consents where pseudonym in (`+places(len(pseudonyms))+`)`, pseudonyms...)
	if err != nil {
		return fmt.Errorf("reading the record of consent: %w", err)
	}
	rows := make([]record.Row, len(values))
	for i, v := range values {
		rows[i] = recordRow(v)
	}
	controller := record.Party{Name: w.Consent.Controller.Name, Contact: w.Consent.Controller.Contact}
	if controller.Name == "" {
		controller.Name = w.Workspace
	}
	receipts := record.Receipts(rows, controller, w.Policy, time.Now())
	if c.Bool("json") {
		return printJSON(c.App.Writer, receipts)
	}
	printReceipts(c.App.Writer, receipts)
	return nil
}

// pseudonymsOf are those of the ids that the flags name.
func pseudonymsOf(c *cli.Context, w *workspace.Workspace) ([]any, error) {
	pseudonymizer, err := seal.NewPseudonymizer(c.Context, seal.Dir(w.Path(w.Keys)), w.Workspace, w.PhoneRegion)
	if err != nil {
		return nil, err
	}
	var pseudonyms []any
	for _, id := range personFlags {
		text := c.String(id.flag)
		if text == "" {
			continue
		}
		p, err := pseudonymizer.Pseudonym(id.kind, text)
		if errors.Is(err, seal.ErrNotAnIdentifier) {
			return nil, usage("--%s: that is none", id.flag)
		}
		if err != nil {
			return nil, err
		}
		pseudonyms = append(pseudonyms, p.Token())
	}
	if len(pseudonyms) == 0 {
		return nil, usage("name the person: --email, --phone, --user-id or --anonymous-id")
	}
	return pseudonyms, nil
}

// withLinked adds the identifiers of the same profiles, where models were built.
func withLinked(ctx context.Context, db warehouse.Driver, pseudonyms []any) ([]any, error) {
	if _, err := db.Columns(ctx, warehouse.SchemaModels, "identity_map"); errors.Is(err, warehouse.ErrNoRelation) {
		return pseudonyms, nil
	}
	linked, err := warehouse.Collect(ctx, db, `select distinct other.node_key from sluis_models.identity_map as own
		join sluis_models.identity_map as other on other.profile_id = own.profile_id
		where own.node_key in (`+places(len(pseudonyms))+`) order by 1`, pseudonyms...)
	for _, row := range linked {
		pseudonyms = append(pseudonyms, row[0])
	}
	return pseudonyms, err
}

func places(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func printReceipts(w io.Writer, receipts []record.Receipt) {
	if len(receipts) == 0 {
		fmt.Fprintln(w, "The record has no choice of this person.")
		return
	}
	var rows [][]string
	for _, r := range receipts {
		notice, region := "", strings.TrimPrefix(strings.Join(r.Record.Jurisdiction, " "), "loc:")
		if r.Record.Notice != nil {
			notice = r.Record.Notice.Version
		}
		for _, p := range r.Record.Process {
			until := ""
			if !p.ValidUntil.IsZero() {
				until = p.ValidUntil.Format(time.DateOnly)
			}
			rows = append(rows, []string{p.Time.Format("2006-01-02 15:04:05"), p.Purpose.Name, p.Word(), until, p.Evidence.Signal, region, p.Evidence.Source, notice})
		}
	}
	printTable(w, []string{"when", "purpose", "consent", "until", "by", "region", "source", "notice"}, rows)
}
