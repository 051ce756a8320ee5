package runner

import (
	"context"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// Retry does again what failed in an earlier run, and what was skipped then, in
// the way in which that run did it. There are no results if all went well.
func (p *Project) Retry(ctx context.Context, d warehouse.Driver, earlier artifact.RunResults) (Results, error) {
	bad := map[string]bool{}
	for _, r := range earlier.Results {
		switch r.Status {
		case "error", "fail", "skipped":
			bad[r.UniqueID] = true
		}
	}
	again := *p
	again.only = selection{}
	for name, node := range p.nodes {
		if bad[p.uniqueID(node)] {
			again.only[name] = true
		}
	}
	does := map[string]func(context.Context, warehouse.Driver, string) (Results, error){
		"build": again.Build, "run": again.Run, "test": again.Test, "seed": again.Seed,
	}
	do, ok := does[earlier.Args.Which]
	if !ok {
		return nil, fmt.Errorf("%s is of a %q, which cannot be tried again: build, run, test or seed can", artifact.RunResultsFile, earlier.Args.Which)
	}
	return do(ctx, d, "")
}

// ParseVars reads vars as dbt's --vars takes them: a mapping in YAML, such as
// {as_of: "2026-03-31 00:00:00"}.
func ParseVars(text string) (map[string]any, error) {
	var vars map[string]any
	if err := yaml.Unmarshal([]byte(text), &vars); err != nil {
		return nil, fmt.Errorf("vars must be a mapping, such as {as_of: \"2026-03-31 00:00:00\"}: %w", err)
	}
	return vars, nil
}
