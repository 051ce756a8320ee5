package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
)

// TestExplainIdentity asks about somebody whose device somebody else used before,
// and of whom nothing is told in clear.
func TestExplainIdentity(t *testing.T) {
	s := newRightsShop(t)
	s.visit("canary-anna", "1")
	post(t, s.url+"/v1/page", `{"anonymousId":"canary-anna-device","userId":"canary-ben","messageId":"b","timestamp":"2026-02-20T10:00:00Z",
		"context":{"consent":{"categoryPreferences":`+agrees+`}}}`)
	s.terminate(t)
	said(t, s.dir, "models", "run")

	var e subject.Identity
	if err := json.Unmarshal([]byte(said(t, s.dir, "explain", "identity", "--user-id", "canary-anna", "--json")), &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Nodes) != 4 || len(e.Edges) != 6 || len(e.Profiles) != 1 || len(e.Shared) != 0 || len(e.Changes) == 0 {
		t.Errorf("the explanation is %+v", e)
	}
	if len(e.Rejected) != 1 || e.Rejected[0].Reason != "profile_limit" || e.Rejected[0].Limit != "user_id" || e.Rejected[0].Profiles[0] == e.Rejected[0].Profiles[1] {
		t.Errorf("what joins nobody is %+v", e.Rejected)
	}
	page := said(t, s.dir, "explain", "identity", e.Nodes[0].Pseudonym)
	for _, want := range []string{"is named after", "agrees to be recognised", "too many of the kind user_id together", "named by who asks", "joined, from"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in\n%s", want, page)
		}
	}
	if strings.Contains(page, "canary") {
		t.Errorf("it tells in clear:\n%s", page)
	}
	if page := said(t, s.dir, "explain", "identity", "--email", "nobody@example.com"); !strings.HasPrefix(page, "Nothing is known") {
		t.Error(page)
	}
}
