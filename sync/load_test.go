package syncer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	syncer "github.com/sluis-cdp/sluis/sync"
)

const good = `model: vips
key: customer
profile: person
purpose: marketing
destination: webhook
config:
  url: https://example.org/hook
  secret: {env: HOOK_SECRET}
  key: {file: keys/hook}
mapping:
  - field: email
    sealed: email
    required: true
  - {field: tier, column: tier}
  - {field: from, value: "2026"}
mode: upsert
guards: {max_removed_share: 0.2, min_removed: 5, min_size: 50}
batch_rows: 500
`

func resolve(ref syncer.SecretRef) (string, error) {
	switch {
	case ref.Env == "HOOK_SECRET":
		return "from-env", nil
	case ref.File == "keys/hook":
		return "from-file", nil
	}
	return "", errors.New("not set: set it")
}

func load(files map[string]string) ([]syncer.Sync, error) {
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return syncer.Load(fsys, resolve)
}

func TestLoad(t *testing.T) {
	syncs, err := load(map[string]string{
		"b.yaml": good, "readme.md": "not a sync", "old/c.yaml": "not: one",
		"a.yml": "model: m\nkey: k\npurpose: marketing\ndestination: file\nmapping: [{field: f, column: c}]\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	from := "2026"
	want := []syncer.Sync{
		{
			Name: "a", File: "a.yml", Model: "m", Key: "k", Profile: "profile_id", Purpose: "marketing", Destination: "file",
			Mapping: []syncer.Field{{Field: "f", Column: "c", Line: 5}}, Mode: syncer.ModeMirror,
			Guards: syncer.Guards{MaxRemovedShare: 0.5, MinRemoved: 20}, BatchRows: 1000,
		},
		{
			Name: "b", File: "b.yaml", Model: "vips", Key: "customer", Profile: "person", Purpose: "marketing", Destination: "webhook",
			Config: syncer.Settings{"url": "https://example.org/hook", "secret": "from-env", "key": "from-file"},
			Mapping: []syncer.Field{
				{Field: "email", Sealed: "email", Required: true, Line: 11},
				{Field: "tier", Column: "tier", Line: 14},
				{Field: "from", Value: &from, Line: 15},
			},
			Mode: syncer.ModeUpsert, ModeLine: 16, Guards: syncer.Guards{MaxRemovedShare: 0.2, MinRemoved: 5, MinSize: 50}, BatchRows: 500,
		},
	}
	if diff := cmp.Diff(want, syncs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLoadModesHoldoutsAndRefresh(t *testing.T) {
	rest := "model: m\nkey: k\npurpose: marketing\ndestination: file\nmapping: [{field: f, column: c}]\n"
	syncs, err := load(map[string]string{
		"a.yaml": rest + "refresh: 540d\nholdout: 10%\nrate: 50/10s\n",
		"b.yaml": rest + "rate: 300/min\nmode: full\nschedule: {every: 1d}\nholdout: {share: 0.5%, seed: spring-2027, column: profile_id}\n",
		"c.yaml": rest + "mode: append\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []syncer.Holdout{{Share: 0.1, Seed: "a", Column: "k"}, {Share: 0.005, Seed: "spring-2027", Column: "profile_id"}, {}}
	for i, s := range syncs {
		if s.Holdout != want[i] {
			t.Errorf("%s: %+v, want %+v", s.Name, s.Holdout, want[i])
		}
	}
	if syncs[0].Refresh != 540*24*time.Hour || syncs[1].Schedule.Every != 24*time.Hour || syncs[1].Mode != syncer.ModeFull || syncs[2].Mode != syncer.ModeAppend {
		t.Errorf("%+v", syncs)
	}
	for i, want := range []syncer.Rate{{Requests: 50, Per: 10 * time.Second}, {Requests: 300, Per: time.Minute}, {}} {
		if s := syncs[i]; s.Rate != want {
			t.Errorf("%s: %+v, want %+v", s.Name, s.Rate, want)
		}
	}
	for _, text := range []string{"5", "0/s", "-1/s", "5/0s", "5/week", "5/48h", "9999999/s", "5/", "many/s"} {
		const want = "a.yaml:6: rate must be a number of requests and a time"
		if _, err := load(map[string]string{"a.yaml": rest + "rate: " + text + "\n"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rate %q: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"mode: full\n":                          "a.yaml:1: mode full sends all rows by each run",
		"mode: update\nguards: {min_size: 5}\n": "a.yaml:1: min_size does not go with mode update",
		"mode: append\nrefresh: 1d\n":           "a.yaml:1: refresh does not go with mode append, which sends each row once",
		"refresh: soon\n":                       "a.yaml:6: refresh must be a time such as 540d",
		"refresh: -1h\n":                        "a.yaml:6: refresh must be a time such as 540d",
		"holdout: 10\n":                         "a.yaml:6: holdout: the share must be a percentage",
		"holdout: 100%\n":                       "a.yaml:6: holdout: the share must be a percentage",
		"holdout: NaN%\n":                       "a.yaml:6: holdout: the share must be a percentage",
		"holdout: {seed: a}\n":                  "a.yaml:6: holdout: share is missing",
		"holdout: {share: 1%, seed: a'b}\n":     "a.yaml:6: seed must be a plain name",
	} {
		if _, err := load(map[string]string{"a.yaml": rest + text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestLoadSyncsOfAccounts(t *testing.T) {
	rest := "model: m\nkey: account_id\npurpose: marketing\ndestination: file\nmapping: [{field: f, column: c}]\n"
	syncs, err := load(map[string]string{"a.yaml": rest + "entity: account\n", "b.yaml": rest + "entity: account\nmembers: {model: staff, consenting: 3}\n"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []syncer.Members{{Model: "account_members", Consenting: 1}, {Model: "staff", Consenting: 3}} {
		if s := syncs[i]; s.Members != want || s.Profile != "account_id" {
			t.Errorf("%s: %+v, %s", s.Name, s.Members, s.Profile)
		}
	}
	for text, want := range map[string]string{
		"entity: company\n":                           "a.yaml:6: entity must be profile",
		"members: {consenting: 2}\n":                  "a.yaml:1: members are of accounts",
		"entity: account\nmembers: {consenting: 0}\n": "a.yaml:7: members: consenting must be a whole number from 1",
		"entity: account\nprofile: owner\n":           "a.yaml:1: a row of an account has no profile",
	} {
		if _, err := load(map[string]string{"a.yaml": rest + text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	sealed := strings.Replace(rest, "column: c", "sealed: email", 1) + "entity: account\n"
	if _, err := load(map[string]string{"a.yaml": sealed}); err == nil || !strings.Contains(err.Error(), `a.yaml:5: mapping: the field "f" is sealed for a person`) {
		t.Error(err)
	}
}

func TestLoadTellsAllThatIsWrong(t *testing.T) {
	_, err := load(map[string]string{
		"one.yaml": strings.NewReplacer("purpose: marketing\n", "", "mode: upsert", "mode: replace", "batch_rows: 500", "batch_rows: 0\ncolour: red").Replace(good),
		"two.yaml": strings.NewReplacer("{env: HOOK_SECRET}", "{env: OTHER}", "{file: keys/hook}", "[s3cret]", "model: vips", "model: vips; DROP",
			"column: tier}", "column: tier, sealed: tier}", "field: from", "field: email", "0.2", "2").Replace(good),
		"BAD.yaml":   good,
		"same.yaml":  good,
		"same.yml":   good,
		"empty.yaml": "",
		"list.yaml":  "- a\n",
		"yaml.yaml":  "a: [\n",
		"twice.yaml": good + "key: other\n",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`one.yaml:1: purpose is missing`,
		`one.yaml:15: mode must be mirror`,
		`one.yaml:17: batch_rows must be`,
		`one.yaml:18: unknown key "colour": known are batch_rows, config,`,
		`two.yaml:1: model must be a plain name`,
		`two.yaml:8: config: secret: not set: set it`,
		`two.yaml:9: config: key: expected keys and values`,
		`two.yaml:14: mapping: the field "tier" needs exactly one of column, sealed and value`,
		`two.yaml:15: mapping: the field "email" is given twice`,
		`two.yaml:17: max_removed_share must be a number from 0 to 1`,
		`BAD.yaml:1: the file's name is the sync's name`,
		`same.yml:1: same.yaml declares the sync "same" already`,
		`empty.yaml:1: the file is empty`,
		`list.yaml:1: expected keys and values`,
		`yaml.yaml: yaml:`,
		`twice.yaml:19: key is given twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q", want)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Error("the error holds a secret")
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestSettingsDoNotPrint(t *testing.T) {
	s := syncer.Sync{Config: syncer.Settings{"token": "s3cret"}, Mapping: []syncer.Field{{}}}
	marshalled, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "sync", s, "config", s.Config)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "sync", s, "config", s.Config)
	for _, text := range []string{string(marshalled), logged.String(), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s.Config)} {
		if strings.Contains(text, "s3cret") {
			t.Error("a secret was printed:", text)
		}
	}
	sealed := syncer.Sealed{Ciphertext: []byte("bytes"), Pseudonym: "email_x"}
	if text := fmt.Sprintf("%v %+v %#v", sealed, sealed, sealed); text != "[sealed] [sealed] [sealed]" {
		t.Error(text)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(good)
	f.Add("mapping: [[]]\nguards: [1]\nconfig: {a: {env: {}}}\n")
	f.Add("&a key: *a")
	f.Fuzz(func(t *testing.T, content string) {
		syncs, err := load(map[string]string{"a.yaml": content})
		if err != nil {
			return
		}
		if s := syncs[0]; s.Purpose == "" || s.Model == "" || s.Key == "" || len(s.Mapping) == 0 {
			t.Errorf("loaded without what is needed: %+v", s)
		}
	})
}
