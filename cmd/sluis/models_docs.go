package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/runner/docs"
)

// docsFile is the page of the models.
const docsFile = "index.html"

func modelsDocsCommand() *cli.Command {
	return &cli.Command{
		Name:  "docs",
		Usage: "write a page about the models: columns, tests, SQL, and a picture of what is made of what",
		Description: "The page is one file that loads nothing: open it from the disk, or put it on any server. It has\n" +
			"names, types, texts, SQL and numbers of rows, and no data.\n\n" +
			"   sluis models docs --serve 127.0.0.1:8488",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "`DIR` for the page, with manifest.json and catalog.json beside it; data/target by default"},
			&cli.StringFlag{Name: "serve", Usage: "serve it on `ADDR`, such as 127.0.0.1:8488, until interrupted"},
			varsFlag(), jsonFlag(),
		},
		Action: modelsDocs,
	}
}

func modelsDocs(c *cli.Context) error {
	if c.Args().Present() {
		return usage("docs takes no arguments, but --out DIR or --serve ADDR")
	}
	w, project, err := openProject(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = targetOf(w)
	}
	if err := writeDocs(c, w, project, out); err != nil {
		return err
	}
	file := filepath.Join(out, docsFile)
	switch addr := c.String("serve"); {
	case addr != "":
		return serveDocs(c, file, addr)
	case c.Bool("json"):
		return printJSON(c.App.Writer, map[string]string{"page": file})
	}
	fmt.Fprintf(c.App.Writer, "The page is %s: open it in a browser.\n", file)
	return nil
}

// writeDocs writes the page and what it is made of.
func writeDocs(c *cli.Context, w *workspace.Workspace, project *runner.Project, out string) error {
	dialect := "duckdb"
	if w.Warehouse.BigQuery != nil {
		dialect = "bigquery"
	}
	invocation := runner.Invocation{ID: uuid.NewString(), Started: time.Now(), Dialect: dialect}
	about := docs.Project{Manifest: project.Manifest(invocation, time.Now())}
	catalog, err := catalogOf(c, w, project, invocation)
	switch {
	case err != nil && c.Context.Err() != nil:
		return err
	case err != nil:
		fmt.Fprintf(c.App.ErrWriter, "The page is without types and numbers of rows: %v\n", err)
	default:
		about.Catalog = &catalog
		if err := artifact.Write(out, artifact.CatalogFile, catalog); err != nil {
			return err
		}
	}
	results, err := artifact.Read[artifact.RunResults](targetOf(w), artifact.RunResultsFile)
	if err == nil {
		about.Results = &results
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	sources, err := artifact.Read[artifact.SourceResults](targetOf(w), artifact.SourcesFile)
	if err == nil {
		about.Sources = &sources
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	page, err := docs.Page(about)
	if err != nil {
		return err
	}
	return errors.Join(artifact.Write(out, artifact.ManifestFile, about.Manifest), artifact.WriteFile(out, docsFile, page))
}

// catalogOf asks the warehouse what it has.
func catalogOf(c *cli.Context, w *workspace.Workspace, project *runner.Project, of runner.Invocation) (catalog artifact.Catalog, err error) {
	db, err := openWarehouse(c.Context, w, "sluis models docs", c.App.ErrWriter)
	if err != nil {
		return catalog, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return project.Catalog(c.Context, db, of, time.Now())
}

// serveDocs serves the page, and nothing else, until the command is interrupted.
func serveDocs(c *cli.Context, file, addr string) error {
	listener, err := new(net.ListenConfig).Listen(c.Context, "tcp", addr)
	if err != nil {
		return fmt.Errorf("--serve: %w", err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.Header().Set("Cache-Control", "no-store")
		rw.Write(page)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(c.Context, func() { server.Close() }) //nolint:errcheck // it ends
	defer stop()
	fmt.Fprintf(c.App.Writer, "The page is on http://%s/ until you interrupt this.\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
