package bigquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluis-cdp/sluis/sql/bigquery/identity"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Program is what an identity is used for, and so what it must be allowed.
type Program int

const (
	// Collector appends to the landing tables through the Storage Write API. It
	// faces the public, and is to do nothing else.
	Collector Program = iota
	// CollectorByLoad appends to the landing tables by load jobs.
	CollectorByLoad
	// Sluis builds models, syncs, and answers queries.
	Sluis
)

// The permissions on a table, and what they let one do. See
// https://cloud.google.com/bigquery/docs/access-control#bq-permissions.
const (
	mayGet        = "bigquery.tables.get"
	mayRead       = "bigquery.tables.getData"
	mayAppend     = "bigquery.tables.updateData"
	mayAlter      = "bigquery.tables.update"
	mayDelete     = "bigquery.tables.delete"
	mayRunJobs    = "bigquery.jobs.create"
	mayCreate     = "bigquery.tables.create"
	mayReadStream = "bigquery.readsessions.create"
)

var verbs = map[string]string{
	mayGet: "see the columns of", mayRead: "read", mayAppend: "append to", mayAlter: "alter", mayDelete: "delete",
}

// needs is what a program does.
type needs struct {
	landing []string // permissions on each landing table
	beyond  []string // permissions on them that it should not have
	jobs    bool
	works   bool // makes tables of its own, and reads large results
}

// needs follows Google's pages on what each call requires:
//   - the Storage Write API: bigquery.tables.updateData
//     (https://cloud.google.com/bigquery/docs/write-api#required_permissions);
//     the columns, which making a stream answers with: bigquery.tables.get;
//   - jobs: bigquery.jobs.create on the project, and what the job does
//     (https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/insert);
//   - making tables: bigquery.tables.create on the dataset
//     (https://cloud.google.com/bigquery/docs/tables#create-table);
//   - read sessions: bigquery.readsessions.create on the project, and
//     bigquery.tables.getData (https://cloud.google.com/bigquery/docs/reference/storage).
func (p Program) needs() needs {
	collector := needs{landing: []string{mayGet, mayAppend}, beyond: []string{mayRead, mayAlter, mayDelete}}
	switch p {
	case CollectorByLoad:
		collector.jobs = true
	case Sluis:
		return needs{landing: []string{mayGet, mayRead}, jobs: true, works: true}
	case Collector:
	}
	return collector
}

// Rights is what [CheckRights] found. Each text is a sentence about the identity,
// with the command that changes what it says. All empty means: it may do what
// the program does, and nothing that it should not.
type Rights struct {
	Missing  []string // the program fails without
	Excess   []string // what a collector should not be able to do; matters if the identity is its alone
	Warnings []string // the program is slower without, or the server did not tell
}

// checking is how long all the questions of [CheckRights] may take.
const checking = 30 * time.Second

// CheckRights finds out what the identity of config may do, and compares it with
// what program does. It changes nothing and costs nothing: it asks for the
// permissions on each landing table (tables.testIamPermissions), and tries the
// rest without effect, by dry runs and a read session from which nothing is read.
// An error means that nothing could be found out, for one since the credentials
// do not count.
//
// Google answers to testIamPermissions "for permission-aware user interfaces" and
// may err on the side of yes.
func CheckRights(ctx context.Context, config Config, program Program) (Rights, error) {
	d, err := open(ctx, config)
	if err != nil {
		return Rights{}, fmt.Errorf("check the rights in BigQuery: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, checking)
	defer cancel()
	c := &rightsCheck{db: d, needs: program.needs()}
	if err := errors.Join(c.run(ctx), d.Close()); err != nil {
		return Rights{}, fmt.Errorf("check the rights in BigQuery: %w", err)
	}
	return c.found, nil
}

type rightsCheck struct {
	*db
	needs needs
	found Rights
}

func (c *rightsCheck) run(ctx context.Context) error {
	jobs, err := c.jobs(ctx)
	if err != nil {
		return err
	}
	reads, err := c.landing(ctx)
	if err != nil || !c.needs.works {
		return err
	}
	if jobs {
		for _, schema := range []string{warehouse.SchemaModels, warehouse.SchemaSync} {
			if err := c.creating(ctx, schema); err != nil {
				return err
			}
		}
	}
	if reads {
		return c.readSessions(ctx)
	}
	return nil
}

// jobs finds out whether jobs may be run.
func (c *rightsCheck) jobs(ctx context.Context) (may bool, err error) {
	if err = c.dry(ctx, "SELECT 1"); err != nil && !denied(err) {
		return false, err
	}
	may = err == nil
	if c.needs.jobs && !may {
		c.missing("it may not run jobs (%s): %s", mayRunJobs, c.grantOnProject("roles/bigquery.jobUser"))
	}
	if !c.needs.jobs && may {
		c.excess("it may run jobs (%s), and thereby overwrite what has landed", mayRunJobs)
	}
	return may, nil
}

// landing compares the permissions on the landing tables with what is needed,
// and tells whether all of them may be read.
func (c *rightsCheck) landing(ctx context.Context) (reads bool, err error) {
	tested, without, err := c.test(ctx)
	if err != nil {
		return false, err
	}
	var lacks []string
	for _, permission := range c.needs.landing {
		if on := without[permission]; len(on) > 0 {
			lacks = append(lacks, fmt.Sprintf("it may not %s %s (%s)", verbs[permission], list(on), permission))
		}
	}
	if len(lacks) > 0 {
		c.missing("%s: %s", strings.Join(lacks, "; "), c.grantLanding())
	}
	for _, permission := range c.needs.beyond {
		on := slices.DeleteFunc(slices.Clone(tested), func(table string) bool { return slices.Contains(without[permission], table) })
		if len(on) > 0 {
			c.excess("it may %s %s (%s)", verbs[permission], list(on), permission)
		}
	}
	return len(tested) > 0 && len(without[mayRead]) == 0, nil
}

// test asks for the permissions on each landing table. It returns the tables
// that it got an answer for, and of these, by permission, those on which it is
// not held.
func (c *rightsCheck) test(ctx context.Context) (tested []string, without map[string][]string, err error) {
	ask := slices.Concat(c.needs.landing, c.needs.beyond)
	without = make(map[string][]string)
	silent := make(map[string][]string) // by reason, the tables without an answer
	for _, table := range warehouse.Landing() {
		name := warehouse.SchemaLanding + "." + table.Name
		held, err := c.client.Dataset(warehouse.SchemaLanding).Table(table.Name).IAM().TestPermissions(ctx, ask)
		if reason := unanswered(err); reason != "" {
			silent[reason] = append(silent[reason], name)
			continue
		}
		if err != nil {
			return nil, nil, c.explain(ctx, err, "")
		}
		tested = append(tested, name)
		for _, permission := range ask {
			if !slices.Contains(held, permission) {
				without[permission] = append(without[permission], name)
			}
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(silent)) {
		c.warn("what it may do with %s could not be checked: %s", list(silent[reason]), reason)
	}
	return tested, without, nil
}

// creating finds out whether tables can be made in a dataset. A dry run is
// refused already to who may not; https://github.com/mozilla/bigquery-etl/pull/1805
// has the answers.
func (c *rightsCheck) creating(ctx context.Context, schema string) error {
	err := c.dry(ctx, fmt.Sprintf("CREATE TABLE %s.sluis_doctor (n INT64)", schema))
	var failed *Error
	switch {
	case denied(err):
		c.missing("it may not make tables in %s (%s): %s", schema, mayCreate, c.grantOnDataset("roles/bigquery.dataEditor", schema))
	case errors.As(err, &failed) && failed.Reason == "notFound":
		c.missing("there is no dataset %s: make it with `sluis doctor --fix`", schema)
	default:
		return err
	}
	return nil
}

// readSessions finds out whether large results can be read as streams. A session
// from which nothing is read costs nothing, and ends by itself.
func (c *rightsCheck) readSessions(ctx context.Context) error {
	_, options, err := c.config.options()
	if err != nil || options == nil {
		return err // an emulator without a storage server, where there is no such right
	}
	client, err := storage.NewBigQueryReadClient(ctx, options...)
	if err != nil {
		return err
	}
	client.CallOptions = &storage.BigQueryReadCallOptions{} // a second try would not tell more
	project := "projects/" + c.config.Project
	_, err = client.CreateReadSession(ctx, &storagepb.CreateReadSessionRequest{
		Parent: project, MaxStreamCount: 1,
		ReadSession: &storagepb.ReadSession{
			Table:      fmt.Sprintf("%s/datasets/%s/tables/%s", project, warehouse.SchemaLanding, warehouse.Landing()[0].Name),
			DataFormat: storagepb.DataFormat_ARROW,
		},
	})
	switch status.Code(err) { //nolint:exhaustive // the others are failures to ask
	case codes.OK:
	case codes.PermissionDenied:
		c.warn("it may not make read sessions (%s), so that large results are read page by page, slowly: %s",
			mayReadStream, c.grantOnProject("roles/bigquery.readSessionUser"))
	default:
		c.warn("whether it may make read sessions (%s) could not be checked: %v", mayReadStream, err)
	}
	return client.Close()
}

// dry has BigQuery look at a statement. Unlike in a run, there is no default
// dataset, which the identity need not be able to see.
func (c *rightsCheck) dry(ctx context.Context, text string) error {
	query := c.newQuery(statement{text: text})
	query.DefaultDatasetID = ""
	query.DryRun = true
	_, err := query.Run(ctx)
	return c.explain(ctx, err, "")
}

// denied tells whether BigQuery refused something for want of a permission.
func denied(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Reason == "accessDenied"
}

// unanswered says why a server did not tell which permissions are held; it is
// empty if that was not the error. An emulator does not know the question. Of a
// table that is not there, BigQuery says so to those who may know, and to others
// that they hold none.
func unanswered(err error) string {
	var answer *googleapi.Error
	if !errors.As(err, &answer) {
		return ""
	}
	switch answer.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		if len(answer.Errors) > 0 && answer.Errors[0].Reason == "notFound" {
			return "not there; `sluis doctor --fix` makes what is missing"
		}
		return "this server does not offer tables.testIamPermissions"
	}
	return ""
}

func (c *rightsCheck) missing(format string, args ...any) {
	c.found.Missing = append(c.found.Missing, fmt.Sprintf(format, args...))
}

func (c *rightsCheck) warn(format string, args ...any) {
	c.found.Warnings = append(c.found.Warnings, fmt.Sprintf(format, args...))
}

// excess names the commands that show where a permission comes from, since only
// who granted a role can tell what else it is good for.
func (c *rightsCheck) excess(format string, args ...any) {
	c.found.Excess = append(c.found.Excess, fmt.Sprintf(format, args...)+fmt.Sprintf(
		": take the role that allows it away; its roles are in `gcloud projects get-iam-policy %[1]s --flatten='bindings[].members' --filter=\"bindings.members:%[2]s\"` and `bq show %[1]s:%[3]s`",
		c.config.Project, c.member(), warehouse.SchemaLanding))
}

// list names tables, or the dataset if it is all of them.
func list(tables []string) string {
	if len(tables) == len(warehouse.Landing()) {
		return "the tables of " + warehouse.SchemaLanding
	}
	return strings.Join(tables, ", ")
}

// CollectorRole is the id of the custom role that lets the collector append and
// nothing else; of Google's roles none does.
const CollectorRole = "sluisCollector"

// member is whom to grant something, in the words of IAM; a word to replace if
// the credentials do not tell, or there are none, as with an emulator.
func (c *rightsCheck) member() string {
	const unknown = "MEMBER"
	who := c.config.identity()
	if c.config.Endpoint != "" && who == (identity.Identity{}) {
		return unknown
	}
	return cmp.Or(who.Member(), unknown)
}

// grantLanding is the command that grants what is needed on the landing tables.
func (c *rightsCheck) grantLanding() string {
	if c.needs.works {
		return c.grantOnDataset("roles/bigquery.dataViewer", warehouse.SchemaLanding)
	}
	return fmt.Sprintf("gcloud iam roles create %s --project=%s --permissions=%s; %s", CollectorRole, c.config.Project,
		strings.Join(c.needs.landing, ","), c.grantOnDataset("projects/"+c.config.Project+"/roles/"+CollectorRole, warehouse.SchemaLanding))
}

// grantOnDataset uses SQL, the one way that works for each kind of role and does
// not rewrite the dataset's whole list. See
// https://cloud.google.com/bigquery/docs/reference/standard-sql/data-control-language.
func (c *rightsCheck) grantOnDataset(role, schema string) string {
	return fmt.Sprintf(`bq --project_id=%s --location=%s query --use_legacy_sql=false "GRANT \`+"`%s\\`"+` ON SCHEMA %s TO '%s'"`,
		c.config.Project, c.config.Location, role, schema, c.member())
}

func (c *rightsCheck) grantOnProject(role string) string {
	return fmt.Sprintf(`gcloud projects add-iam-policy-binding %s --role=%s --member="%s" --condition=None`, c.config.Project, role, c.member())
}
