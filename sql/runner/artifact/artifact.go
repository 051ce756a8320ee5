// Package artifact holds the files that a run leaves in the target folder, in
// the formats of dbt, which tools for dbt read: manifest.json, run_results.json,
// sources.json and catalog.json.
//
// It imports no other part of the product.
package artifact

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The names of the files.
const (
	ManifestFile   = "manifest.json"
	RunResultsFile = "run_results.json"
	SourcesFile    = "sources.json"
	CatalogFile    = "catalog.json"
)

const schemas = "https://schemas.getdbt.com/dbt/"

// Metadata says what wrote an artifact, and when.
type Metadata struct {
	Schema      string            `json:"dbt_schema_version"`
	Version     string            `json:"dbt_version"`
	GeneratedAt time.Time         `json:"generated_at"`
	Invocation  string            `json:"invocation_id"`
	StartedAt   time.Time         `json:"invocation_started_at"`
	Env         map[string]string `json:"env"`
}

// ManifestMetadata is the metadata of a manifest.
type ManifestMetadata struct {
	Metadata
	Project     string `json:"project_name"`
	ProjectID   string `json:"project_id"`
	AdapterType string `json:"adapter_type"`
}

// Manifest is all that a project declares: manifest.json, in version 12 of its
// schema. Nodes, sources, macros and unit tests are by their unique ids.
type Manifest struct {
	Metadata       ManifestMetadata    `json:"metadata"`
	Nodes          map[string]Node     `json:"nodes"`
	Sources        map[string]Source   `json:"sources"`
	Macros         map[string]Macro    `json:"macros"`
	Docs           struct{}            `json:"docs"`
	Exposures      struct{}            `json:"exposures"`
	Metrics        struct{}            `json:"metrics"`
	Groups         struct{}            `json:"groups"`
	Selectors      struct{}            `json:"selectors"`
	Disabled       struct{}            `json:"disabled"`
	ParentMap      map[string][]string `json:"parent_map"`
	ChildMap       map[string][]string `json:"child_map"`
	GroupMap       struct{}            `json:"group_map"`
	SavedQueries   struct{}            `json:"saved_queries"`
	SemanticModels struct{}            `json:"semantic_models"`
	UnitTests      map[string]UnitTest `json:"unit_tests"`
}

// Node is a model, a seed or a test.
type Node struct {
	Database         *string           `json:"database"`
	Schema           string            `json:"schema"`
	Name             string            `json:"name"`
	ResourceType     string            `json:"resource_type"`
	PackageName      string            `json:"package_name"`
	Path             string            `json:"path"`
	OriginalFilePath string            `json:"original_file_path"`
	UniqueID         string            `json:"unique_id"`
	FQN              []string          `json:"fqn"`
	Alias            string            `json:"alias"`
	Checksum         Checksum          `json:"checksum"`
	Config           map[string]any    `json:"config"`
	Tags             []string          `json:"tags"`
	Description      string            `json:"description"`
	Columns          map[string]Column `json:"columns"`
	ColumnOrder      []string          `json:"-"` // in which the project describes them
	Meta             map[string]any    `json:"meta"`
	PatchPath        *string           `json:"patch_path"`
	RelationName     *string           `json:"relation_name"`
	RawCode          string            `json:"raw_code"`

	// These are of models and tests.
	Language     string     `json:"language,omitempty"`
	Refs         []Ref      `json:"refs,omitempty"`
	Sources      [][]string `json:"sources,omitempty"`
	DependsOn    DependsOn  `json:"depends_on"`
	CompiledPath *string    `json:"compiled_path,omitempty"`
	Compiled     bool       `json:"compiled,omitempty"`
	CompiledCode *string    `json:"compiled_code,omitempty"`
	Access       string     `json:"access,omitempty"`
	ColumnName   *string    `json:"column_name,omitempty"`
	FileKeyName  string     `json:"file_key_name,omitempty"`
	AttachedNode *string    `json:"attached_node,omitempty"`
	TestMetadata *TestCall  `json:"test_metadata,omitempty"`
	PrimaryKey   []string   `json:"primary_key,omitempty"`
}

// UnitTest is a test of a model's query.
type UnitTest struct {
	Name             string     `json:"name"`
	Model            string     `json:"model"`
	Description      string     `json:"description"`
	ResourceType     string     `json:"resource_type"`
	PackageName      string     `json:"package_name"`
	Path             string     `json:"path"`
	OriginalFilePath string     `json:"original_file_path"`
	UniqueID         string     `json:"unique_id"`
	FQN              []string   `json:"fqn"`
	DependsOn        DependsOn  `json:"depends_on"`
	Given            []UnitRows `json:"given"`
	Expect           UnitRows   `json:"expect"`
	// Checksum is of all that the test says. dbt's is of its own, and no other's.
	Checksum string `json:"checksum"`
}

// UnitRows are rows that a unit test gives for something that its model reads,
// or expects: rows of values or NULL by column, or a query.
type UnitRows struct {
	Input  string `json:"input,omitempty"`
	Format string `json:"format"`
	Rows   any    `json:"rows"`
}

// Checksum is that of a node's file.
type Checksum struct {
	Name     string `json:"name"`
	Checksum string `json:"checksum"`
}

// Column is what a project says about a column.
type Column struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	DataType    *string        `json:"data_type"`
	Meta        map[string]any `json:"meta"`
	Tags        []string       `json:"tags"`
}

// Ref is what a template referred to.
type Ref struct {
	Name    string  `json:"name"`
	Package *string `json:"package"`
	Version *string `json:"version"`
}

// DependsOn lists unique ids.
type DependsOn struct {
	Macros []string `json:"macros"`
	Nodes  []string `json:"nodes,omitempty"`
}

// TestCall is a generic test with its arguments.
type TestCall struct {
	Name      string         `json:"name"`
	Kwargs    map[string]any `json:"kwargs"`
	Namespace *string        `json:"namespace"`
}

// Source is a table that others fill.
type Source struct {
	Database          *string           `json:"database"`
	Schema            string            `json:"schema"`
	Name              string            `json:"name"`
	ResourceType      string            `json:"resource_type"`
	PackageName       string            `json:"package_name"`
	Path              string            `json:"path"`
	OriginalFilePath  string            `json:"original_file_path"`
	UniqueID          string            `json:"unique_id"`
	FQN               []string          `json:"fqn"`
	SourceName        string            `json:"source_name"`
	SourceDescription string            `json:"source_description"`
	Loader            string            `json:"loader"`
	Identifier        string            `json:"identifier"`
	Description       string            `json:"description"`
	Columns           map[string]Column `json:"columns"`
	ColumnOrder       []string          `json:"-"` // in which the project describes them
	RelationName      string            `json:"relation_name"`
	Freshness         *Freshness        `json:"freshness"`
	LoadedAtField     *string           `json:"loaded_at_field"`
	LoadedAtQuery     *string           `json:"loaded_at_query"`
	Config            map[string]any    `json:"config"`
}

// Freshness is how old the newest row of a source may be, of those that a filter
// leaves.
type Freshness struct {
	WarnAfter  Age     `json:"warn_after"`
	ErrorAfter Age     `json:"error_after"`
	Filter     *string `json:"filter"`
}

// Age is so many minutes, hours or days; both are null if there is no bound.
type Age struct {
	Count  *int    `json:"count"`
	Period *string `json:"period"` // minute, hour or day
}

// String writes the age as people do, such as 48 hours; it is empty if there is
// no bound.
func (a Age) String() string {
	switch {
	case a.Count == nil || a.Period == nil:
		return ""
	case *a.Count == 1:
		return "1 " + *a.Period
	}
	return fmt.Sprintf("%d %ss", *a.Count, *a.Period)
}

// Macro is a macro of the project.
type Macro struct {
	Name             string    `json:"name"`
	ResourceType     string    `json:"resource_type"`
	PackageName      string    `json:"package_name"`
	Path             string    `json:"path"`
	OriginalFilePath string    `json:"original_file_path"`
	UniqueID         string    `json:"unique_id"`
	SQL              string    `json:"macro_sql"`
	DependsOn        DependsOn `json:"depends_on"`
}

// RunResults is what became of the nodes of a run: run_results.json, in version
// 6 of its schema.
type RunResults struct {
	Metadata    Metadata `json:"metadata"`
	Results     []Result `json:"results"`
	ElapsedTime float64  `json:"elapsed_time"`
	Args        Args     `json:"args"`
}

// Result is what became of a node. All keys are always there, as tools expect.
type Result struct {
	Status          string         `json:"status"`
	Timing          []Timing       `json:"timing"`
	ThreadID        string         `json:"thread_id"`
	ExecutionTime   float64        `json:"execution_time"`
	AdapterResponse map[string]any `json:"adapter_response"`
	Message         *string        `json:"message"`
	Failures        *int64         `json:"failures"`
	UniqueID        string         `json:"unique_id"`
	Compiled        *bool          `json:"compiled"`
	CompiledCode    *string        `json:"compiled_code"`
	RelationName    *string        `json:"relation_name"`
	BatchResults    *struct{}      `json:"batch_results"`
}

// Timing is a part of the time that a node took.
type Timing struct {
	Name        string     `json:"name"`
	StartedAt   *time.Time `json:"started_at"`
	CompletedAt *time.Time `json:"completed_at"`
}

// Args are the options of a run, so that it can be tried again.
type Args struct {
	Which             string         `json:"which"`
	Select            []string       `json:"select"`
	Exclude           []string       `json:"exclude"`
	IndirectSelection string         `json:"indirect_selection"`
	FullRefresh       bool           `json:"full_refresh"`
	FailFast          bool           `json:"fail_fast"`
	Threads           int            `json:"threads"`
	Vars              map[string]any `json:"vars"`
	State             string         `json:"state,omitempty"`
}

// SourceResults is how fresh sources were: sources.json, in version 3 of its
// schema.
type SourceResults struct {
	Metadata    Metadata       `json:"metadata"`
	Results     []SourceResult `json:"results"`
	ElapsedTime float64        `json:"elapsed_time"`
}

// SourceResult is how fresh a source was, or why it could not be asked, which is
// the status "runtime error".
type SourceResult struct {
	UniqueID string  `json:"unique_id"`
	Status   string  `json:"status"` // pass, warn, error or runtime error
	Error    *string `json:"error,omitempty"`
	*Measured
}

// Measured is what a source that was asked is told of. All keys are always
// there, as tools expect.
type Measured struct {
	LoadedAt        time.Time      `json:"max_loaded_at"` // of the newest row; the year 1 if there is none
	AskedAt         time.Time      `json:"snapshotted_at"`
	Age             float64        `json:"max_loaded_at_time_ago_in_s"`
	Criteria        Freshness      `json:"criteria"`
	AdapterResponse map[string]any `json:"adapter_response"`
	Timing          []Timing       `json:"timing"`
	ThreadID        string         `json:"thread_id"`
	ExecutionTime   float64        `json:"execution_time"`
}

// Catalog is what the warehouse has of a project: catalog.json, in version 1 of
// its schema.
type Catalog struct {
	Metadata Metadata         `json:"metadata"`
	Nodes    map[string]Table `json:"nodes"`
	Sources  map[string]Table `json:"sources"`
	Errors   []string         `json:"errors"`
}

// Table is a table or view of the warehouse.
type Table struct {
	Metadata TableMetadata          `json:"metadata"`
	Columns  map[string]TableColumn `json:"columns"`
	Stats    map[string]Stat        `json:"stats"`
	UniqueID string                 `json:"unique_id"`
}

// TableMetadata says what and where a table is.
type TableMetadata struct {
	Type    string  `json:"type"`
	Schema  string  `json:"schema"`
	Name    string  `json:"name"`
	Comment *string `json:"comment"`
	Owner   *string `json:"owner"`
}

// TableColumn is a column with the warehouse's own type.
type TableColumn struct {
	Type    string  `json:"type"`
	Index   int     `json:"index"` // from 1
	Name    string  `json:"name"`
	Comment *string `json:"comment"`
}

// Stat is a number about a table.
type Stat struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	Value       any    `json:"value"`
	Include     bool   `json:"include"`
	Description string `json:"description"`
}

// RowCount is the id of the number of rows.
const RowCount = "row_count"

// NewMetadata makes the metadata of an artifact of a kind, such as "manifest/v12".
// version is the release of dbt whose format it is.
func NewMetadata(kind, invocation string, started, now time.Time) Metadata {
	return Metadata{
		Schema: schemas + kind + ".json", Version: "1.12.0", GeneratedAt: now.UTC(), Invocation: invocation,
		StartedAt: started.UTC(), Env: map[string]string{},
	}
}

// Read reads an artifact from a folder. A file that is not there is
// fs.ErrNotExist.
func Read[T any](dir, file string) (T, error) {
	var value T
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(content, &value); err != nil {
		return value, fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
	}
	return value, nil
}

// Write writes an artifact to a folder. Who reads at the same time sees the one
// before or this one, whole.
func Write(dir, file string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return WriteFile(dir, file, append(content, '\n'))
}

// WriteFile is Write for what is bytes already.
func WriteFile(dir, file string, content []byte) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	aside := filepath.Join(dir, "."+file)
	if err := os.WriteFile(aside, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(aside, filepath.Join(dir, file)); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
