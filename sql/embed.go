// Package sqlproject holds the dbt project with the models that Sluis starts
// from. A workspace gets a copy, which its team edits and the runner runs.
package sqlproject

import "embed"

// Files is the project; dbt_project.yml is at its root.
//
//go:embed dbt_project.yml all:models all:macros all:seeds all:tests
var Files embed.FS
