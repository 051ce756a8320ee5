package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent"
	"github.com/sluis-cdp/sluis/consent/gpp"
	"github.com/sluis-cdp/sluis/consent/seal"
	"github.com/sluis-cdp/sluis/consent/tcf"
)

func consentCommand() *cli.Command {
	return &cli.Command{
		Name:  "consent",
		Usage: "explain a decision; verify the record of consent; give people their receipts",
		Subcommands: []*cli.Command{
			{
				Name: "decide", Usage: "print the decision for given headers, cookies and strings, and why",
				Description: "Decides as the collector does, by the rules of the workspace, or by the defaults where there is none.\n\n" +
					"   sluis consent decide --region NL --source web --cookie 'euconsent-v2=CQ…' --header 'Sec-GPC: 1'",
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "tcf", Usage: "a TC `STRING`"},
					&cli.StringSliceFlag{Name: "gpp", Usage: "a GPP `STRING`"},
					&cli.StringSliceFlag{Name: "us-privacy", Usage: "a US Privacy `STRING`, such as 1YNN"},
					&cli.StringSliceFlag{Name: "header", Usage: "a `HEADER` of the request, such as 'Sec-GPC: 1'; repeat it for more"},
					&cli.StringSliceFlag{Name: "cookie", Usage: "a cookie of the request, as `NAME=VALUE`; repeat it for more"},
					&cli.StringFlag{Name: "query", Usage: "the query of the request's address, such as gdpr_consent=CQ…&gcs=G111"},
					&cli.StringFlag{Name: "consent", Usage: "the event's context.consent, as `JSON`"},
					&cli.StringFlag{Name: "consent-management", Usage: "the event's context.consentManagement, as `JSON`"},
					&cli.StringFlag{Name: "region", Usage: "where the person is, such as NL or US-CA; without one it is not known"},
					&cli.StringFlag{Name: "source", Usage: "the `ID` of the source"},
					&cli.TimestampFlag{Name: "at", Layout: time.RFC3339, Usage: "decide as of this `TIME`, such as 2026-03-01T12:00:00Z"},
					jsonFlag(),
				},
				Action: decideConsent,
			},
			consentVerifyCommand(),
			consentReceiptsCommand(),
		},
	}
}

func decideConsent(c *cli.Context) error {
	if c.Args().Present() {
		return usage("consent decide takes flags alone; %q is none", c.Args().First())
	}
	policy, cookieKeys, err := decidingPolicy(c)
	if err != nil {
		return err
	}
	at := time.Now()
	if given := c.Timestamp("at"); given != nil {
		at = *given
	}
	h, err := hearing(c)
	if err != nil {
		return err
	}
	signals := policy.Read(h.around, cookieKeys...)
	for _, text := range c.StringSlice("tcf") {
		signals = append(signals, policy.FromTCF(text))
	}
	for _, text := range c.StringSlice("gpp") {
		signals = append(signals, policy.FromGPP(text)...)
	}
	for _, text := range c.StringSlice("us-privacy") {
		signals = append(signals, policy.FromUSPrivacy(text))
	}
	if h.object != nil {
		signals = append(signals, policy.FromConsentObject(h.object)...)
	}
	if h.management != nil {
		signals = append(signals, policy.FromConsentManagement(h.management))
	}
	situation := consent.Situation{Region: c.String("region"), Source: c.String("source"), Now: at}
	e := explain(policy, situation, signals)
	e.TCF, e.GPP = decodedTCF(h.strings("tcf", c)), decodedGPP(h.strings("gpp", c))
	if c.Bool("json") {
		return printJSON(c.App.Writer, e)
	}
	e.print(c.App.Writer)
	return nil
}

// decidingPolicy is the workspace's, with the keys of its stored choices if they are
// there; or that of the defaults, where nobody named a workspace and there is none.
func decidingPolicy(c *cli.Context) (*consent.Policy, [][]byte, error) {
	dir := workspaceDir(c)
	if _, err := os.Stat(filepath.Join(dir, workspace.File)); errors.Is(err, fs.ErrNotExist) && dir == "." {
		policy, err := consent.NewPolicy(consent.PolicyConfig{Version: "defaults"})
		return policy, nil, err
	}
	w, err := workspace.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	if source := c.String("source"); source != "" && !w.HasSource(source) {
		var ids []string
		for _, s := range w.Sources {
			ids = append(ids, s.ID)
		}
		return nil, nil, usage("there is no source %q; there are %s", source, strings.Join(ids, ", "))
	}
	keys, err := seal.Every(c.Context, w.Keyring(), seal.KeyCookie)
	if err != nil && !errors.Is(err, seal.ErrNoKey) {
		return nil, nil, err
	}
	return w.Policy, keys, nil
}

// heard is what the flags have of a request.
type heard struct {
	around             []consent.Evidence
	object, management any
}

func hearing(c *cli.Context) (heard, error) {
	var h heard
	header := make(http.Header)
	for _, line := range c.StringSlice("header") {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return h, usage("--header wants a name and a value, such as 'Sec-GPC: 1'")
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	for _, cookie := range c.StringSlice("cookie") {
		if !strings.Contains(cookie, "=") {
			return h, usage("--cookie wants a name and a value, such as 'euconsent-v2=CQ…'")
		}
		header.Add("Cookie", cookie)
	}
	h.around = consent.Gather(header, c.String("query"))
	for flag, into := range map[string]*any{"consent": &h.object, "consent-management": &h.management} {
		if text := c.String(flag); text != "" {
			if err := json.Unmarshal([]byte(text), into); err != nil || *into == nil {
				return h, usage("--%s wants a JSON object", flag)
			}
		}
	}
	return h, nil
}

// strings are those of one kind, the flags' first.
func (h heard) strings(kind string, c *cli.Context) []string {
	all := c.StringSlice(kind)
	for _, e := range h.around {
		if text, ok := e.String(consent.Kind(kind)); ok {
			all = append(all, text)
		}
	}
	if object, ok := h.object.(map[string]any); ok {
		if text, ok := object[kind].(string); ok {
			all = append(all, text)
		}
	}
	return all
}

// explanation is a decision, told whole.
type explanation struct {
	DecisionID    string                    `json:"decision_id"`
	PolicyVersion string                    `json:"policy_version"`
	Region        string                    `json:"region"`
	Source        string                    `json:"source"`
	At            time.Time                 `json:"at"`
	Purposes      map[string]consent.Reason `json:"purposes"`
	Signals       []explainedSignal         `json:"signals"`
	TCF           *explainedTCF             `json:"tcf,omitempty"`
	GPP           *explainedGPP             `json:"gpp,omitempty"`

	order []consent.Purpose
}

// explainedSignal is what one signal says.
type explainedSignal struct {
	Kind       consent.Kind      `json:"kind"`
	Unreadable bool              `json:"unreadable,omitempty"`
	DecidedAt  time.Time         `json:"decided_at,omitzero"`
	Granted    []consent.Purpose `json:"granted"`
	Denied     []consent.Purpose `json:"denied"`
	Digest     string            `json:"digest"`
}

func explain(policy *consent.Policy, at consent.Situation, signals []consent.Signal) *explanation {
	decision := policy.Decide(at, signals...)
	e := &explanation{
		DecisionID: decision.ID(), PolicyVersion: policy.Version(), Region: at.Region, Source: at.Source, At: at.Now.UTC(),
		Purposes: make(map[string]consent.Reason), Signals: []explainedSignal{}, order: policy.Purposes(),
	}
	for _, purpose := range e.order {
		e.Purposes[string(purpose)] = decision.Explain(purpose)
	}
	for _, s := range signals {
		told := explainedSignal{Kind: s.Kind, Unreadable: s.Unreadable, DecidedAt: s.DecidedAt, Granted: []consent.Purpose{}, Denied: []consent.Purpose{}, Digest: s.Digest()}
		for _, purpose := range e.order {
			switch s.Verdicts[purpose] {
			case consent.Granted:
				told.Granted = append(told.Granted, purpose)
			case consent.Denied:
				told.Denied = append(told.Denied, purpose)
			case consent.Unknown:
			}
		}
		e.Signals = append(e.Signals, told)
	}
	return e
}

func (e *explanation) print(w io.Writer) {
	region := e.Region
	if region == "" {
		region = "unknown"
	}
	fmt.Fprintf(w, "Region %s, policy %s, as of %s.\n\n", region, e.PolicyVersion, e.At.Format(time.RFC3339))
	var rows [][]string
	for _, purpose := range e.order {
		reason := e.Purposes[string(purpose)]
		granted := "no"
		if reason.Granted {
			granted = "yes"
		}
		rows = append(rows, []string{string(purpose), granted, reason.Text})
	}
	printTable(w, []string{"purpose", "granted", "why"}, rows)
	if len(e.Signals) == 0 {
		fmt.Fprintln(w, "\nNobody said anything.")
		return
	}
	fmt.Fprintln(w)
	rows = nil
	for _, s := range e.Signals {
		made := ""
		if !s.DecidedAt.IsZero() {
			made = s.DecidedAt.Format(time.DateOnly)
		}
		if s.Unreadable {
			rows = append(rows, []string{string(s.Kind), made, "", "everything: it cannot be read"})
			continue
		}
		rows = append(rows, []string{string(s.Kind), made, join(s.Granted), join(s.Denied)})
	}
	printTable(w, []string{"signal", "made", "grants", "denies"}, rows)
}

func join(purposes []consent.Purpose) string {
	words := make([]string, len(purposes))
	for i, p := range purposes {
		words[i] = string(p)
	}
	return strings.Join(words, " ")
}

// explainedTCF is a TC string decoded; with Error nothing else of it is known.
type explainedTCF struct {
	Error                      string                 `json:"error,omitempty"`
	Version                    int                    `json:"version,omitempty"`
	Created                    time.Time              `json:"created,omitzero"`
	LastUpdated                time.Time              `json:"last_updated,omitzero"`
	CMPID                      int                    `json:"cmp_id,omitempty"`
	CMPVersion                 int                    `json:"cmp_version,omitempty"`
	ConsentLanguage            string                 `json:"consent_language,omitempty"`
	VendorListVersion          int                    `json:"vendor_list_version,omitempty"`
	PolicyVersion              int                    `json:"policy_version,omitempty"`
	PublisherCountry           string                 `json:"publisher_country,omitempty"`
	IsServiceSpecific          bool                   `json:"is_service_specific"`
	PurposeConsents            []int                  `json:"purpose_consents"`
	PurposeLegitimateInterests []int                  `json:"purpose_legitimate_interests"`
	SpecialFeatureOptIns       []int                  `json:"special_feature_opt_ins"`
	VendorConsents             []int                  `json:"vendor_consents"`
	VendorLegitimateInterests  []int                  `json:"vendor_legitimate_interests"`
	DisclosedVendors           []int                  `json:"disclosed_vendors"` // null if the string does not say
	LacksDisclosure            bool                   `json:"lacks_disclosure,omitempty"`
	Restrictions               []explainedRestriction `json:"publisher_restrictions,omitempty"`
}

type explainedRestriction struct {
	Purpose int   `json:"purpose"`
	Type    int   `json:"type"`
	Vendors []int `json:"vendors"`
}

// decodedTCF tells of the first string.
func decodedTCF(texts []string) *explainedTCF {
	if len(texts) == 0 {
		return nil
	}
	s, err := tcf.Parse(texts[0])
	if err != nil {
		return &explainedTCF{Error: err.Error()}
	}
	return tellTCF(s)
}

func tellTCF(s *tcf.String) *explainedTCF {
	e := &explainedTCF{
		Version: s.Version, Created: s.Created, LastUpdated: s.LastUpdated, CMPID: s.CMPID, CMPVersion: s.CMPVersion,
		ConsentLanguage: s.ConsentLanguage, VendorListVersion: s.VendorListVersion, PolicyVersion: s.PolicyVersion,
		PublisherCountry: s.PublisherCountryCode, IsServiceSpecific: s.IsServiceSpecific, LacksDisclosure: s.LacksDisclosure(),
		PurposeConsents: numbers(s.PurposeConsents), PurposeLegitimateInterests: numbers(s.PurposeLegitimateInterests),
		SpecialFeatureOptIns: numbers(s.SpecialFeatureOptIns), VendorConsents: vendors(s.VendorConsents),
		VendorLegitimateInterests: vendors(s.VendorLegitimateInterests),
	}
	if s.DisclosedVendors != nil {
		e.DisclosedVendors = vendors(*s.DisclosedVendors)
	}
	for r := range s.Restrictions.All() {
		e.Restrictions = append(e.Restrictions, explainedRestriction{r.Purpose, int(r.Type), vendors(r.Vendors)})
	}
	return e
}

// numbers and vendors are never null.
func numbers(ids tcf.IDs) []int     { return slices.AppendSeq([]int{}, ids.All()) }
func vendors(ids tcf.Vendors) []int { return slices.AppendSeq([]int{}, ids.All()) }

// explainedGPP is a GPP string decoded.
type explainedGPP struct {
	Error    string             `json:"error,omitempty"`
	Sections []explainedSection `json:"sections"`
}

// explainedSection is a section, by the names and numbers of the IAB.
type explainedSection struct {
	ID      int              `json:"id"`
	Name    string           `json:"name,omitempty"` // empty for one that is not known
	Version int              `json:"version,omitempty"`
	Fields  map[string][]int `json:"fields,omitempty"`
	GPC     *bool            `json:"gpc,omitempty"`
	TCF     *explainedTCF    `json:"tcf,omitempty"`
	Express []int            `json:"purposes_express,omitempty"` // of Canada
	Implied []int            `json:"purposes_implied,omitempty"`
}

// decodedGPP tells of the first string.
func decodedGPP(texts []string) *explainedGPP {
	if len(texts) == 0 {
		return nil
	}
	s, err := gpp.Parse(texts[0])
	if err != nil {
		return &explainedGPP{Error: err.Error(), Sections: []explainedSection{}}
	}
	e := &explainedGPP{Sections: []explainedSection{}}
	for _, section := range s.Sections {
		told := explainedSection{ID: section.ID, Name: section.Name}
		switch {
		case section.TCF != nil:
			told.TCF = tellTCF(section.TCF)
		case section.Canada != nil:
			told.Version = section.Canada.Version
			told.Express, told.Implied = numbers(section.Canada.PurposesExpress), numbers(section.Canada.PurposesImplied)
		case section.US != nil:
			told.Version, told.GPC = section.US.Version, section.US.GPC
			told.Fields = make(map[string][]int)
			for _, field := range section.US.Fields() {
				for _, answer := range section.US.Answers(field) {
					told.Fields[field.String()] = append(told.Fields[field.String()], int(answer))
				}
			}
		}
		e.Sections = append(e.Sections, told)
	}
	return e
}
