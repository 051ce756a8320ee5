package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/normalize"
	"github.com/sluis-cdp/sluis/plugins/googleads/googleadstest"
	"github.com/sluis-cdp/sluis/plugins/hubspot/hubspottest"
	"github.com/sluis-cdp/sluis/plugins/intercom/intercomtest"
	"github.com/sluis-cdp/sluis/plugins/meta/metatest"
	"github.com/sluis-cdp/sluis/plugins/postgres/postgrestest"
	syncer "github.com/sluis-cdp/sluis/sync"
)

// An address goes from a sync's mapping through the plugin's process to Meta,
// and gets there as the hash that Meta publishes. A mapping that it would not
// take is refused with file and line.
func TestDestinations(t *testing.T) {
	const audience = "23842587999990123"
	meta := metatest.New(audience, "1")
	defer meta.Close()
	dir := newWorkspace(t)
	path := filepath.Join(dir, "syncs", "ads.yaml")
	file := fmt.Sprintf(`model: pricing_and_chat
key: profile_id
purpose: advertising
destination: meta-audience
config: {access_token: {env: SLUIS_TEST_TOKEN}, audience_id: "%s", host: "%s"}
mapping:
  - {field: EMAIL, sealed: email}
  - {field: phone, sealed: phone}
`, audience, meta.URL)
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUIS_TEST_TOKEN", meta.Token)
	sluis := func(want int, arguments ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(bounded(t), append([]string{"sluis", "--workspace", dir, "destinations"}, arguments...), &out, &out); code != want {
			t.Errorf("%v: exit %d, want %d: %s", arguments, code, want, out.String())
		}
		if strings.Contains(out.String(), meta.Token) || strings.Contains(out.String(), "John_Smith") {
			t.Errorf("%v: a secret or a value in %s", arguments, out.String())
		}
		return out.String()
	}

	if out := sluis(1, "check"); !strings.Contains(out, "ads.yaml:8: mapping: phone: there is no such field; there are EMAIL") {
		t.Errorf("the mapping's mistake is not told: %s", out)
	}
	sluis(1, "test", "ads", "EMAIL=John_Smith@gmail.com")
	if len(meta.Bodies()) > 0 {
		t.Error("with that mistake something was sent")
	}
	edit(t, path, "field: phone", "field: PHONE")
	sluis(0, "check", "ads")
	sluis(0, "test", "ads", "EMAIL=John_Smith@gmail.com", "PHONE=(650)555-1212")
	if n := len(meta.Users(audience)); n != 0 {
		t.Errorf("the test left %d members", n)
	}
	if out := sluis(0, "test", "--keep", "ads", "EMAIL=John_Smith@gmail.com", "PHONE=(650)555-1212"); !strings.Contains(out, "PHONE is not a phone number") {
		t.Errorf("nobody says that the number was left out: %s", out)
	}
	users := meta.Users(audience)
	if len(users) != 1 || users[0]["EMAIL"] != "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f" || users[0]["PHONE"] != "" {
		t.Errorf("the audience has %v", users)
	}
	sluis(2, "test", "ads", "SHOE=43")
	sluis(2, "check", "nothing")
	sluis(2, "ls", "nothing")
	if out := sluis(0, "ls"); !strings.Contains(out, "postgres") {
		t.Errorf("ls: %s", out)
	}

	edit(t, path, "audience_id: \""+audience, "audience_id: \"42")
	if out := sluis(1, "check", "ads"); !strings.Contains(out, "there is nothing with the configured id") {
		t.Errorf("check: %s", out)
	}
}

// The README's syncs are good ones: they load, and their destinations take
// their configuration and their fields, as far as that can be known offline.
func TestREADMEsSyncs(t *testing.T) {
	readme, err := os.ReadFile("../../plugins/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n# syncs/([a-z]+\\.yaml)(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		files[block[1]] = &fstest.MapFile{Data: []byte("#" + block[2])}
	}
	syncs, err := syncer.Load(files, func(ref syncer.SecretRef) (string, error) {
		if ref.Env == "SLACK_WEBHOOK" {
			return "https://hooks.slack.com/services/T00000000/B00000000/XXXX", nil
		}
		if ref.File == "keys/google-ads.json" {
			return new(googleadstest.Server).Login(), nil
		}
		if ref.File == "keys/partner_sftp" {
			return privateKey(t), nil
		}
		return "secret", nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(syncs) < 4 {
		t.Errorf("only %d syncs", len(syncs))
	}
	for _, s := range syncs {
		make, ok := builtin()[s.Destination]
		if !ok {
			t.Errorf("%s: no destination %s", s.File, s.Destination)
			continue
		}
		if err := destination.Validate(make(), s.Config); err != nil {
			t.Errorf("%s: %v", s.File, err)
		}
		if err := checkMapping(make().Describe().Target, s); err != nil {
			t.Error(err)
		}
	}
	for name := range builtin() {
		if !strings.Contains(string(readme), "| `"+name+"` |") {
			t.Errorf("the README's table lacks %s", name)
		}
	}
}

// Syncs that use one account share what it allows: requests of one wait for those of the
// other. What a sync says of its rate counts, and is refused where nothing waits.
func TestSyncsShareTheLimitsOfAnAccount(t *testing.T) {
	crm := hubspottest.New()
	defer crm.Close()
	crm.Limit, crm.Interval = 4, 3*time.Second
	dir := newWorkspace(t)
	write := func(name, text string) {
		t.Helper()
		text = "model: pricing_and_chat\nkey: profile_id\npurpose: marketing\nmapping: [{field: email, sealed: email}]\n" + text
		if err := os.WriteFile(filepath.Join(dir, "syncs", name+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sluis := func(want int, arguments ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := run(bounded(t), append([]string{"sluis", "--workspace", dir}, arguments...), &out, &out); code != want {
			t.Errorf("%v: exit %d, want %d: %s", arguments, code, want, out.String())
		}
		return out.String()
	}
	for _, name := range []string{"crm", "sales"} {
		write(name, fmt.Sprintf("destination: hubspot\nrate: 4/7s\nconfig: {access_token: %s, host: %q}\n", crm.Token, crm.URL))
	}
	sluis(0, "destinations", "check", "crm", "sales", "crm", "sales") // each asks twice what properties there are
	if n := crm.RateLimited(); n > 0 {
		t.Errorf("%d requests came too early", n)
	}
	if out := sluis(0, "destinations", "ls", "hubspot"); !strings.Contains(out, "limit: 100 requests in 10s for an account\n") {
		t.Errorf("the limit is not told: %s", out)
	}
	write("lake", "destination: file\nrate: 5/s\nconfig: {directory: out}\n")
	if out := sluis(1, "destinations", "check", "lake"); !strings.Contains(out, "lake.yaml:6: rate: the destination file does not make requests that wait") {
		t.Errorf("not refused: %s", out)
	}
}

// Who agrees is at every destination, who refuses at none, and who withdraws
// leaves them all: from HTTP to a real database and to servers that check what
// Meta, Google, HubSpot and Intercom do.
func TestWithdrawalLeavesEveryDestination(t *testing.T) {
	const audience, list = "23842587999990123", "77"
	meta, crm, google, chat := metatest.New(audience, "1"), hubspottest.New(), googleadstest.New(), intercomtest.New()
	defer meta.Close()
	defer crm.Close()
	defer google.Close()
	defer chat.Close()
	crm.List(list)
	chat.Tag(list, "Customers")
	dir := newWorkspace(t)
	for _, name := range []string{"pricing_and_chat_webhook", "profiles_file"} {
		if err := os.Remove(filepath.Join(dir, "syncs", name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	declare := func(name, config, email string) {
		t.Helper()
		text := "model: pricing_and_chat\nkey: profile_id\npurpose: marketing\n" + config + "\nmapping: [{field: " + email + ", sealed: email}]\n"
		if err := os.WriteFile(filepath.Join(dir, "syncs", name+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	declare("ads", fmt.Sprintf("destination: meta-audience\nconfig: {access_token: %s, audience_id: %q, host: %q}", meta.Token, audience, meta.URL), "EMAIL")
	declare("crm", fmt.Sprintf("destination: hubspot\nconfig: {access_token: %s, list_id: %q, host: %q}", crm.Token, list, crm.URL), "email")
	t.Setenv("SLUIS_TEST_GOOGLE", google.ServiceAccount())
	declare("google", fmt.Sprintf("destination: googleads\nconfig: {credentials: {env: SLUIS_TEST_GOOGLE}, customer_id: %q, login_customer_id: %q, user_list_id: %q,"+
		" customer_match_terms: accepted, consent_purpose: marketing, host: %q}", googleadstest.Customer, googleadstest.Manager, googleadstest.List, google.URL), "email_address")
	declare("chat", fmt.Sprintf("destination: intercom\nconfig: {access_token: %q, tag_id: %q, host: %q}", chat.Token, list, chat.URL), "email")
	members := map[string]func() []string{
		"google": google.Members,
		"intercom": func() (all []string) {
			for _, contact := range chat.Contacts() {
				if contact["tags"] == list {
					all = append(all, fmt.Sprint(contact["email"]))
				}
			}
			return hashes(t, all...)
		},
		"meta": func() (all []string) {
			for _, user := range meta.Users(audience) {
				all = append(all, user["EMAIL"])
			}
			return all
		},
		"hubspot": func() []string { return hashes(t, crm.Members(list)...) },
	}
	server, err := postgrestest.Start(t.Context())
	switch {
	case errors.Is(err, postgrestest.ErrNotInstalled):
		t.Log(err)
	case err != nil:
		t.Fatal(err)
	default:
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		database, err := pgx.Connect(t.Context(), server.SocketURL())
		if err != nil {
			t.Fatal(err)
		}
		defer database.Close(context.Background())
		if _, err := database.Exec(t.Context(), "CREATE TABLE people (key text PRIMARY KEY, email text NOT NULL)"); err != nil {
			t.Fatal(err)
		}
		declare("db", fmt.Sprintf("destination: postgres\nconfig: {url: %q, table: people, key: key}", server.SocketURL()), "email")
		members["postgres"] = func() []string {
			rows, err := database.Query(context.Background(), "SELECT email FROM people")
			if err != nil {
				t.Fatal(err)
			}
			all, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			return hashes(t, all...)
		}
	}

	p := start(t, "up", "--workspace", dir, "--listen", "127.0.0.1:0")
	visit := func(name, consent string) {
		common := `"anonymousId":"` + name + `-device","userId":"` + name + `","context":{"consent":{"categoryPreferences":` + consent + `}}}`
		post(t, p.url+"/v1/page", `{"properties":{"path":"/pricing"},`+common)
		post(t, p.url+"/v1/track", `{"event":"Live Chat Started",`+common)
		post(t, p.url+"/v1/identify", `{"traits":{"email":"`+name+`@example.com"},`+common)
	}
	all := `{"identity":true,"analytics":true,"marketing":true}`
	visit("agrees", all)
	visit("withdraws", all)
	visit("refuses", `{"identity":true,"analytics":true,"marketing":false}`)
	has := func(want ...string) func() bool {
		return func() bool {
			for _, of := range members {
				got := of()
				slices.Sort(got)
				if !slices.Equal(got, want) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "both arriving at "+strings.Join(slices.Sorted(maps.Keys(members)), ", "), has(hashes(t, "agrees@example.com", "withdraws@example.com")...))
	post(t, p.url+"/v1/consent", `{"userId":"withdraws","purposes":{"marketing":false}}`)
	eventually(t, "the removal arriving", has(hashes(t, "agrees@example.com")...))
	p.terminate(t)
	if text := p.stderr.String(); strings.Contains(text, "@example.com") || strings.Contains(text, meta.Token) || strings.Contains(text, crm.Token) {
		t.Error("an address or a secret is in the log")
	}
	for _, body := range append(meta.Bodies(), google.Bodies()...) {
		if strings.Contains(string(body), "@example.com") {
			t.Error("an address went to an ad platform in clear")
		}
	}
}

// hashes are those of addresses, in order.
func hashes(t *testing.T, addresses ...string) []string {
	t.Helper()
	all := make([]string, len(addresses))
	for i, address := range addresses {
		hash, err := normalize.Apply("meta.email", address)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = hash
	}
	slices.Sort(all)
	return all
}

// privateKey is a new one in PEM.
func privateKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
