package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/collector/snippet"
)

func snippetCommand() *cli.Command {
	return &cli.Command{
		Name:  "snippet",
		Usage: "what to put into a site's pages, and what its Content-Security-Policy has to allow",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "where browsers reach the collector, with its path if it has one: `https://shop.example/x`"},
			&cli.StringFlag{Name: "source", Usage: "`ID` of the source in sluis.yaml; by default the first"},
			&cli.StringFlag{Name: "global", Value: "sluis", Usage: "name of the object with the calls, such as analytics"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			w, err := openWorkspace(c)
			if err != nil {
				return err
			}
			tag, err := tagOf(w, c.String("source"), c.String("url"), c.String("global"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, snippetParts(tag))
			}
			fmt.Fprintf(c.App.Writer, snippetText, snippet.Version, kibibytes(len(snippet.Current().Zipped())),
				tag.InlineStub(), tag.Script(), tag.Policy(true), tag.ExternalStub(), tag.Policy(false))
			return nil
		},
	}
}

const snippetText = `sluis.js %s, %s gzipped. Into the <head>, before what calls it:

%s
%s

With a Content-Security-Policy, this is what it has to allow:

  %s

A nonce in both tags will do instead of the hash. Without inline scripts, the first line is

%s

and the policy

  %s
`

// tagOf is the tag for a source.
func tagOf(w *workspace.Workspace, id, address, global string) (snippet.Tag, error) {
	source := w.CollectorSources()[0]
	if id != "" {
		found := false
		for _, s := range w.CollectorSources() {
			if s.ID == id {
				source, found = s, true
			}
		}
		if !found {
			return snippet.Tag{}, usage("there is no source %q in %s", id, workspace.File)
		}
	}
	if address == "" {
		address = "http://" + w.Listen + w.PathPrefix
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return snippet.Tag{}, usage("--url wants where browsers reach the collector, such as https://shop.example/x")
	}
	if strings.Trim(global, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$") != "" || global == "" {
		return snippet.Tag{}, usage("--global wants the name of a variable, such as analytics")
	}
	return snippet.Tag{
		Collector: address, WriteKey: source.WriteKey, Identity: string(source.Identity), MaxAge: w.Policy.MaxAge(), Global: global,
	}, nil
}

// snippetParts are for a site's build.
func snippetParts(tag snippet.Tag) map[string]any {
	current := snippet.Current()
	return map[string]any{
		"version": snippet.Version, "bytes": len(current.Zipped()), "integrity": current.Integrity,
		"stub": tag.InlineStub(), "stub_source": snippet.StubSource(), "stub_file": tag.ExternalStub(), "script": tag.Script(),
		"policy": tag.Policy(true), "policy_without_inline": tag.Policy(false),
	}
}

func kibibytes(n int) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
