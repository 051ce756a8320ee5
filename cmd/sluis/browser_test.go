//go:build browser

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sluis-cdp/sluis/collector/snippet/browsertest"
)

// TestDemoInChromium visits the demo's shop as a person would, and takes a
// picture before and after the choice: `go test -artifacts` keeps them.
func TestDemoInChromium(t *testing.T) {
	browser, stopBrowser, err := browsertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stopBrowser(); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(t.TempDir(), "demo")
	d := &demo{out: io.Discard, stderr: io.Discard, runs: make(map[string]*syncTotals), options: initOptions{Name: "demo"}}
	stop, err := d.start(context.Background(), dir, "127.0.0.1:0")
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(browser, 2*time.Minute)
	defer cancel()
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatal(err)
		}
	}
	text := func(selector string) string {
		t.Helper()
		text, err := chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS(selector)))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	picture := func(name string) {
		t.Helper()
		png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	click := func(selector string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS(selector)) }

	do(chromedp.EmulateViewport(800, 640), chromedp.Navigate(d.pages.shop), click(`[data-page="/pricing"]`), click(`[data-track]`), click(`#identify`))
	if got := strings.TrimSpace(text("#log")); got != "Nothing has left this page." {
		t.Errorf("before the choice: %s", got)
	}
	picture("before.png")

	do(click(`[data-choice="all"]`))
	eventually(t, "the answers", func() bool {
		log := text("#log")
		return strings.Contains(log, "choice → {") && strings.Contains(log, "page /, page /pricing, Live Chat Started, identify → {\"success\":true}")
	})
	if got := text("#choice"); got != "identity, analytics, personalization, marketing, advertising, sale" {
		t.Errorf("the page says that the choice is %q", got)
	}
	picture("after.png")

	do(click(`[data-choice="none"]`), click(`[data-track]`))
	eventually(t, "the refusal", func() bool { return strings.Count(text("#log"), "choice → {") == 2 })
	picture("refused.png")

	eventually(t, "seeing the events", func() bool {
		rows := query(t, dir, "select event, count(*) as n, count(distinct anonymous_id) as ids from sluis.events group by 1 order by 1")
		return len(rows) == 3 && rows[0]["event"] == "Live Chat Started" && rows[0]["n"] == 1.0 && rows[1]["event"] == "identify" && rows[2]["n"] == 2.0 && rows[2]["ids"] == 1.0
	})
}
