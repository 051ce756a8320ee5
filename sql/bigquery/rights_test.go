package bigquery_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// holder plays BigQuery for somebody who holds some permissions.
type holder struct {
	storagepb.UnimplementedBigQueryReadServer

	t *testing.T
	// permissions held on the project, or on a dataset or table if written
	// "permission on sluis" or "permission on sluis.events".
	permissions []string
	// absent are tables and datasets that do not exist.
	absent []string
	// simple makes it an emulator, which knows nothing of permissions.
	simple bool
	// away makes it have no storage server.
	away bool
}

func (h *holder) may(permission string, on ...string) bool {
	return slices.Contains(h.permissions, permission) || slices.ContainsFunc(on, func(resource string) bool {
		return slices.Contains(h.permissions, permission+" on "+resource)
	})
}

func (h *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	table, tests := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/bigquery/v2/projects/p/datasets/sluis/tables/"), ":testIamPermissions")
	switch {
	case tests && h.simple:
		http.NotFound(w, r)
	case tests && slices.Contains(h.absent, "sluis."+table):
		fail(w, apiError{http.StatusNotFound, "notFound", "Not found: Table p:sluis." + table})
	case tests:
		var asked, answer struct {
			Permissions []string `json:"permissions,omitempty"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			h.t.Error(err)
		}
		for _, permission := range asked.Permissions {
			if h.may(permission, "sluis", "sluis."+table) {
				answer.Permissions = append(answer.Permissions, permission)
			}
		}
		reply(w, answer)
	case r.Method == http.MethodPost && r.URL.Path == "/bigquery/v2/projects/p/jobs":
		h.dryRun(w, r)
	default:
		h.t.Errorf("unexpected: %s %s", r.Method, r.URL.Path)
	}
}

func (h *holder) dryRun(w http.ResponseWriter, r *http.Request) {
	var job struct {
		Configuration struct {
			DryRun bool
			Query  struct {
				Query          string
				DefaultDataset any
			}
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&job); err != nil || !job.Configuration.DryRun || job.Configuration.Query.DefaultDataset != nil {
		h.t.Errorf("a job that is no dry run, or needs a dataset: %+v, %v", job, err)
	}
	schema, makes := strings.CutPrefix(job.Configuration.Query.Query, "CREATE TABLE ")
	schema, _, _ = strings.Cut(schema, ".")
	switch {
	case !h.simple && !h.may("bigquery.jobs.create"):
		fail(w, apiError{http.StatusForbidden, "accessDenied", "Access Denied: Project p: User does not have bigquery.jobs.create permission in project p."})
	case makes && slices.Contains(h.absent, schema):
		fail(w, apiError{http.StatusNotFound, "notFound", "Not found: Dataset p:" + schema})
	case makes && !h.simple && !h.may("bigquery.tables.create", schema):
		fail(w, apiError{http.StatusForbidden, "accessDenied", "Access Denied: Dataset p:" + schema + ": Permission bigquery.tables.create denied on dataset p:" + schema + " (or it may not exist)."})
	default:
		reply(w, map[string]any{
			"jobReference": map[string]any{"projectId": "p", "location": "EU"}, "configuration": map[string]any{"query": map[string]any{}},
			"status": map[string]any{"state": "DONE"}, "statistics": map[string]any{"query": map[string]any{"statementType": "SELECT"}},
		})
	}
}

func (h *holder) CreateReadSession(_ context.Context, request *storagepb.CreateReadSessionRequest) (*storagepb.ReadSession, error) {
	if h.away {
		return nil, status.Error(codes.Unavailable, "try again later")
	}
	if request.GetParent() != "projects/p" || !strings.HasPrefix(request.GetReadSession().GetTable(), "projects/p/datasets/sluis/tables/") {
		h.t.Errorf("a session of %s for %s", request.GetParent(), request.GetReadSession().GetTable())
	}
	if !h.may("bigquery.readsessions.create") {
		return nil, status.Error(codes.PermissionDenied, "request failed: the user does not have 'bigquery.readsessions.create' permission for 'projects/p'")
	}
	return &storagepb.ReadSession{}, nil
}

func (h *holder) config() bigquery.Config {
	h.t.Helper()
	rest := httptest.NewServer(h)
	h.t.Cleanup(rest.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	streams := grpc.NewServer()
	storagepb.RegisterBigQueryReadServer(streams, h)
	go streams.Serve(listener)
	h.t.Cleanup(streams.Stop)
	return bigquery.Config{
		Project: "p", Location: "EU", Endpoint: rest.URL, StorageEndpoint: listener.Addr().String(),
		Impersonate: "somebody@p.iam.gserviceaccount.com",
	}
}

// The commands, as they are to be pasted.
const (
	grantRole = "gcloud iam roles create sluisCollector --project=p --permissions=bigquery.tables.get,bigquery.tables.updateData; " +
		`bq --project_id=p --location=EU query --use_legacy_sql=false "GRANT \` + "`projects/p/roles/sluisCollector\\`" + ` ON SCHEMA sluis TO 'serviceAccount:somebody@p.iam.gserviceaccount.com'"`
	grantJobs     = `gcloud projects add-iam-policy-binding p --role=roles/bigquery.jobUser --member="serviceAccount:somebody@p.iam.gserviceaccount.com" --condition=None`
	grantSessions = `gcloud projects add-iam-policy-binding p --role=roles/bigquery.readSessionUser --member="serviceAccount:somebody@p.iam.gserviceaccount.com" --condition=None`
	findRoles     = ": take the role that allows it away; its roles are in `gcloud projects get-iam-policy p --flatten='bindings[].members' --filter=\"bindings.members:serviceAccount:somebody@p.iam.gserviceaccount.com\"` and `bq show p:sluis`"
)

func grantOn(schema, role string) string {
	return `bq --project_id=p --location=EU query --use_legacy_sql=false "GRANT \` + "`roles/bigquery." + role + "\\`" +
		` ON SCHEMA ` + schema + ` TO 'serviceAccount:somebody@p.iam.gserviceaccount.com'"`
}

func TestCheckRights(t *testing.T) {
	appends := []string{"bigquery.tables.get on sluis", "bigquery.tables.updateData on sluis"}
	works := []string{
		"bigquery.jobs.create", "bigquery.readsessions.create", "bigquery.tables.get on sluis", "bigquery.tables.getData on sluis",
		"bigquery.tables.create on sluis_models", "bigquery.tables.create on sluis_sync",
	}
	without := func(all []string, permission string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(held string) bool { return held == permission })
	}
	unknown := "what it may do with the tables of sluis could not be checked: this server does not offer tables.testIamPermissions"
	for name, test := range map[string]struct {
		program bigquery.Program
		holder  holder
		want    bigquery.Rights
	}{
		"a collector that appends and nothing else": {bigquery.Collector, holder{permissions: appends}, bigquery.Rights{}},
		"a collector that may not append": {
			bigquery.Collector,
			holder{permissions: without(appends, "bigquery.tables.updateData on sluis")},
			bigquery.Rights{Missing: []string{"it may not append to the tables of sluis (bigquery.tables.updateData): " + grantRole}},
		},
		"a collector that may not append to one table": {
			bigquery.Collector,
			holder{permissions: without(appends, "bigquery.tables.updateData on sluis"), absent: []string{"sluis.vault"}},
			bigquery.Rights{
				Missing:  []string{"it may not append to " + strings.Join(tablesBut("vault"), ", ") + " (bigquery.tables.updateData): " + grantRole},
				Warnings: []string{"what it may do with sluis.vault could not be checked: not there; `sluis doctor --fix` makes what is missing"},
			},
		},
		"a collector of which nobody has heard": {
			bigquery.Collector,
			holder{},
			bigquery.Rights{Missing: []string{"it may not see the columns of the tables of sluis (bigquery.tables.get); " +
				"it may not append to the tables of sluis (bigquery.tables.updateData): " + grantRole}},
		},
		"a collector that may read one table": {
			bigquery.Collector,
			holder{permissions: append([]string{"bigquery.tables.getData on sluis.vault"}, appends...)},
			bigquery.Rights{Excess: []string{"it may read sluis.vault (bigquery.tables.getData)" + findRoles}},
		},
		"a collector that edits": {
			bigquery.Collector,
			holder{permissions: append([]string{
				"bigquery.jobs.create", "bigquery.tables.getData on sluis", "bigquery.tables.update on sluis", "bigquery.tables.delete on sluis",
			}, appends...)},
			bigquery.Rights{Excess: []string{
				"it may run jobs (bigquery.jobs.create), and thereby overwrite what has landed" + findRoles,
				"it may read the tables of sluis (bigquery.tables.getData)" + findRoles,
				"it may alter the tables of sluis (bigquery.tables.update)" + findRoles,
				"it may delete the tables of sluis (bigquery.tables.delete)" + findRoles,
			}},
		},
		"a collector that lands by load jobs": {
			bigquery.CollectorByLoad, holder{permissions: append([]string{"bigquery.jobs.create"}, appends...)}, bigquery.Rights{},
		},
		"a collector that may not run its load jobs": {
			bigquery.CollectorByLoad,
			holder{permissions: appends},
			bigquery.Rights{Missing: []string{"it may not run jobs (bigquery.jobs.create): " + grantJobs}},
		},
		"sluis with all it needs": {bigquery.Sluis, holder{permissions: works}, bigquery.Rights{}},
		"sluis that owns everything": {bigquery.Sluis, holder{permissions: []string{
			"bigquery.jobs.create", "bigquery.readsessions.create", "bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.create",
			"bigquery.tables.update", "bigquery.tables.updateData", "bigquery.tables.delete",
		}}, bigquery.Rights{}},
		"sluis without jobs": {
			bigquery.Sluis,
			holder{permissions: without(works, "bigquery.jobs.create")},
			bigquery.Rights{Missing: []string{"it may not run jobs (bigquery.jobs.create): " + grantJobs}},
		},
		"sluis without read sessions": {
			bigquery.Sluis,
			holder{permissions: without(works, "bigquery.readsessions.create")},
			bigquery.Rights{Warnings: []string{"it may not make read sessions (bigquery.readsessions.create), so that large results are read page by page, slowly: " + grantSessions}},
		},
		"sluis without a storage server": {
			bigquery.Sluis,
			holder{permissions: works, away: true},
			bigquery.Rights{Warnings: []string{"whether it may make read sessions (bigquery.readsessions.create) could not be checked: " +
				"rpc error: code = Unavailable desc = try again later"}},
		},
		"sluis that may not read what landed": {
			bigquery.Sluis,
			holder{permissions: without(works, "bigquery.tables.getData on sluis")},
			bigquery.Rights{Missing: []string{"it may not read the tables of sluis (bigquery.tables.getData): " + grantOn("sluis", "dataViewer")}},
		},
		"sluis that may not build": {
			bigquery.Sluis,
			holder{permissions: without(works, "bigquery.tables.create on sluis_models")},
			bigquery.Rights{Missing: []string{"it may not make tables in sluis_models (bigquery.tables.create): " + grantOn("sluis_models", "dataEditor")}},
		},
		"sluis that was not set up": {
			bigquery.Sluis,
			holder{permissions: works, absent: []string{"sluis_sync"}},
			bigquery.Rights{Missing: []string{"there is no dataset sluis_sync: make it with `sluis doctor --fix`"}},
		},
		"a collector of an emulator": {
			bigquery.Collector,
			holder{simple: true},
			bigquery.Rights{Warnings: []string{unknown}, Excess: []string{"it may run jobs (bigquery.jobs.create), and thereby overwrite what has landed" + findRoles}},
		},
		"sluis on an emulator": {bigquery.Sluis, holder{simple: true}, bigquery.Rights{Warnings: []string{unknown}}},
	} {
		t.Run(name, func(t *testing.T) {
			test.holder.t = t
			got, err := bigquery.CheckRights(t.Context(), test.holder.config(), test.program)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// tablesBut lists the landing tables without one.
func tablesBut(name string) []string {
	var names []string
	for _, table := range warehouse.Landing() {
		if table.Name != name {
			names = append(names, "sluis."+table.Name)
		}
	}
	return names
}

// TestCommandsCanBePasted: a shell hands to bq and gcloud what they should get,
// also for a person, whom gcloud knows.
func TestCommandsCanBePasted(t *testing.T) {
	programs := t.TempDir()
	for name, script := range map[string]string{
		"bq":     "#!/bin/sh\necho bq; printf '<%s>\\n' \"$@\"\n",
		"gcloud": "#!/bin/sh\nif [ \"$*\" = 'config get account' ]; then echo me@example.com; exit; fi\necho gcloud; printf '<%s>\\n' \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(programs, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	login := filepath.Join(t.TempDir(), "login.json")
	if err := os.WriteFile(login, []byte(`{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := holder{t: t}
	config := h.config()
	config.CredentialsFile, config.Impersonate = login, ""
	var printed []string
	for _, program := range []bigquery.Program{bigquery.Collector, bigquery.Sluis} {
		rights, err := bigquery.CheckRights(t.Context(), config, program)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range rights.Missing {
			_, command, _ := strings.Cut(finding, "): ")
			shell := exec.CommandContext(t.Context(), "/bin/sh", "-c", command)
			shell.Env = []string{"PATH=" + programs + ":/usr/bin:/bin"}
			output, err := shell.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, output)
			}
			printed = append(printed, strings.Fields(string(output))...)
		}
	}
	want := strings.Fields("gcloud <iam> <roles> <create> <sluisCollector> <--project=p> <--permissions=bigquery.tables.get,bigquery.tables.updateData> " +
		"bq <--project_id=p> <--location=EU> <query> <--use_legacy_sql=false> <GRANT `projects/p/roles/sluisCollector` ON SCHEMA sluis TO 'user:me@example.com'> " +
		"gcloud <projects> <add-iam-policy-binding> <p> <--role=roles/bigquery.jobUser> <--member=user:me@example.com> <--condition=None> " +
		"bq <--project_id=p> <--location=EU> <query> <--use_legacy_sql=false> <GRANT `roles/bigquery.dataViewer` ON SCHEMA sluis TO 'user:me@example.com'>")
	if diff := cmp.Diff(want, printed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestCheckRightsFails: what is no answer about rights is an error, with what to
// do where that is known.
func TestCheckRightsFails(t *testing.T) {
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, apiError{http.StatusBadRequest, "invalid", "Invalid project ID 'p'"})
	}))
	defer refuse.Close()
	_, err := bigquery.CheckRights(t.Context(), bigquery.Config{Project: "p", Location: "EU", Endpoint: refuse.URL}, bigquery.Sluis)
	if err == nil || !strings.Contains(err.Error(), "Invalid project ID") {
		t.Errorf("%v, want what BigQuery said", err)
	}
	if _, err := bigquery.CheckRights(t.Context(), bigquery.Config{Project: "p", Location: "EU", CredentialsFile: "testdata/none.json"}, bigquery.Sluis); err == nil {
		t.Error("credentials that are not there are no error")
	}
}
