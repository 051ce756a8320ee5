package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/runner"
)

// progress prints a line for each node that ended and, on a terminal, below them
// one that tells what is being done.
type progress struct {
	w     *workspace.Workspace
	out   io.Writer // nil if nothing is printed
	width int       // of the terminal; zero if it is none

	mu       sync.Mutex
	of, done int
	running  []string
}

func newProgress(c *cli.Context, w *workspace.Workspace) *progress {
	if c.Bool("json") {
		return &progress{w: w}
	}
	p := &progress{w: w, out: c.App.Writer}
	if file, ok := c.App.Writer.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.width = 80
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

func (p *progress) begin(node runner.Node, of int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of = of
	p.running = append(p.running, node.Name)
	p.draw()
}

func (p *progress) end(r runner.NodeResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if i := slices.Index(p.running, r.Name); i >= 0 {
		p.running = slices.Delete(p.running, i, i+1)
	}
	if p.out == nil {
		return
	}
	p.wipe()
	printNode(p.out, explained(p.w, r))
	p.draw()
}

// clear removes the line that tells what is being done.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

func (p *progress) wipe() {
	if p.width > 0 {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// draw writes that line, without an end, so that the next is written over it.
func (p *progress) draw() {
	if p.width == 0 || len(p.running) == 0 {
		return
	}
	const bar = 20
	filled := bar * min(p.done, p.of) / max(p.of, 1)
	line := fmt.Sprintf("  %s%s %d of %d: %s", strings.Repeat("━", filled), strings.Repeat("─", bar-filled), p.done, p.of, strings.Join(p.running, ", "))
	if utf8.RuneCountInString(line) >= p.width {
		line = string([]rune(line)[:max(p.width-2, 0)]) + "…"
	}
	p.wipe()
	fmt.Fprint(p.out, line)
}

func printNode(w io.Writer, r runner.NodeResult) {
	rows := ""
	if r.Rows > 0 || r.Rows == 0 && r.Kind != runner.Test {
		rows = fmt.Sprintf("%d rows", r.Rows)
	}
	fmt.Fprintf(w, "  %-8s %-56s %12s %7.2fs\n", r.Status, r.Name, rows, r.Seconds)
	if r.Message != "" && (!done(r) || r.Status == runner.Warned) {
		fmt.Fprintf(w, "           %s: %s\n", r.Path, strings.ReplaceAll(r.Message, "\n", "\n           "))
	}
}

// summary counts what became of nodes.
func summary(results runner.Results, took time.Duration) string {
	if len(results) == 0 {
		return "Nothing to do: nothing is selected."
	}
	count := map[runner.Status]int{}
	for _, r := range results {
		count[r.Status]++
	}
	var parts []string
	for _, status := range []runner.Status{runner.Built, runner.Passed, runner.Warned, runner.Failed, runner.Skipped} {
		if n := count[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	return fmt.Sprintf("%s in %.1f s.", strings.Join(parts, ", "), took.Seconds())
}
