//go:build browser

package docs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sluis-cdp/sluis/collector/snippet/browsertest"
	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/runner/docs"
)

// TestPageInChromium opens the page of the models from a disk, and does what
// people do there: `go test -tags browser -artifacts` keeps pictures of it.
func TestPageInChromium(t *testing.T) {
	browser, stop, err := browsertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	loaded, err := runner.Load(runner.Options{Dir: sqlproject.Files})
	if err != nil {
		t.Fatal(err)
	}
	manifest := loaded.Manifest(runner.Invocation{ID: "i", Started: time.Now(), Dialect: "duckdb"}, time.Now())
	p := &tab{t: t, url: "file://" + save(t, docs.Project{Manifest: manifest})}
	ctx, cancel := context.WithTimeout(browser, 3*time.Minute)
	t.Cleanup(cancel)
	p.ctx = ctx

	t.Run("overview", func(t *testing.T) {
		p.open(t, "#/", 1360, 900)
		p.want(t, `document.querySelectorAll(".card").length > 5`)
		p.want(t, `document.querySelector(".stat b").textContent === "`+fmt.Sprint(models(manifest.Nodes))+`"`)
		p.picture(t, "overview.png")
	})
	t.Run("search", func(t *testing.T) {
		p.want(t, `document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "/", bubbles: true})) && document.activeElement.id === "search"`)
		p.do(t, chromedp.SendKeys(chromedp.CSS("#search"), "lapsed"))
		p.want(t, `document.querySelector("#tree a.item .name").textContent === "lapsed_customers"`)
		p.want(t, `document.querySelector("#found").textContent.includes("result")`)
		p.picture(t, "search.png")
		p.do(t, chromedp.SendKeys(chromedp.CSS("#search"), "\r"))
		p.want(t, `document.querySelector("h1").textContent === "lapsed_customers" && document.title.startsWith("lapsed_customers")`)
	})
	t.Run("search a column", func(t *testing.T) {
		p.do(t, chromedp.SendKeys(chromedp.CSS("#search"), "\u001b"))
		p.want(t, `document.querySelector("#search").value === ""`)
		p.do(t, chromedp.SendKeys(chromedp.CSS("#search"), "first_utm_source"))
		p.want(t, `[...document.querySelectorAll("#tree small")].some(e => e.textContent.includes("column first_utm_source"))`)
	})
	t.Run("model", func(t *testing.T) {
		p.open(t, "#/model/profiles", 1360, 1400)
		p.want(t, `document.querySelectorAll("tbody tr").length > 5`)
		p.want(t, `[...document.querySelectorAll("td.tests .chip")].some(e => e.textContent === "unique")`)
		p.want(t, `document.querySelector("pre").textContent.includes("ref(")`)
		p.do(t, chromedp.Click(chromedp.CSS(`[role="tab"]:nth-child(2)`)))
		p.want(t, `document.querySelector("pre").textContent.includes("sluis_models.") && !document.querySelector("pre").textContent.includes("{{")`)
		p.picture(t, "model.png")
	})
	t.Run("neighbour", func(t *testing.T) {
		p.do(t, chromedp.Click(chromedp.CSS(`.box[data-id="model.sluis.identity_map"]`)))
		p.want(t, `document.querySelector("h1").textContent === "identity_map"`)
	})
	t.Run("lineage", func(t *testing.T) {
		p.open(t, "#/lineage", 1680, 950)
		p.want(t, fmt.Sprintf(`document.querySelectorAll(".box").length === %d`, models(manifest.Nodes)+seeds(manifest.Nodes)+len(manifest.Sources)))
		p.do(t, chromedp.Click(chromedp.CSS(`.box[data-id="model.sluis.consent_profile"]`)))
		p.want(t, `document.querySelector(".picked b").textContent === "consent_profile"`)
		p.want(t, `document.querySelector('.box[data-id="model.sluis.stg_events"]').classList.contains("up")`)
		p.want(t, `document.querySelector('.box[data-id="model.sluis.pricing_and_chat"]').classList.contains("down")`)
		p.want(t, `!document.querySelector('.box[data-id="source.sluis.sluis.vault"]').matches(".up, .down")`)
		p.want(t, overlaps+` === 0`)
		p.picture(t, "lineage.png")
	})
	t.Run("dark", func(t *testing.T) {
		p.do(t, chromedp.Click(chromedp.CSS("#theme")))
		p.want(t, `getComputedStyle(document.body).backgroundColor === "rgb(16, 22, 28)"`)
		p.open(t, "#/model/attribution_credits", 1360, 1400)
		p.picture(t, "dark.png")
		p.do(t, chromedp.Click(chromedp.CSS("#theme")))
	})
	t.Run("phone", func(t *testing.T) {
		p.open(t, "#/model/sessions", 390, 844)
		p.want(t, `document.documentElement.scrollWidth <= innerWidth`)
		p.picture(t, "phone.png")
		p.do(t, chromedp.Click(chromedp.CSS("#menu")))
		p.want(t, `document.querySelector("#menu").getAttribute("aria-expanded") === "true"`)
		p.picture(t, "phone-menu.png")
		p.do(t, chromedp.Click(chromedp.CSS(`#tree a[data-id="model.sluis.profiles"]`)))
		p.want(t, `document.querySelector("h1").textContent === "profiles" && !document.body.classList.contains("open")`)
	})
	t.Run("nothing is loaded", func(t *testing.T) {
		p.want(t, `performance.getEntriesByType("resource").length === 0`)
	})
	t.Run("texts are texts", func(t *testing.T) {
		p := &tab{t: t, ctx: p.ctx, url: "file://" + save(t, project())}
		p.open(t, "#/model/orders", 1360, 1100)
		p.want(t, `document.querySelector(".lead").textContent.includes("</script><b>bold</b>") && !document.querySelector(".lead b")`)
		p.want(t, `document.querySelector(".lead code").textContent === "order_id"`)
		p.want(t, `document.querySelector(".facts").textContent.includes("12,345")`)
		p.picture(t, "small.png")
		p.open(t, "#/", 1360, 900)
		p.want(t, `document.querySelector(".alert").textContent.includes("orders_tie")`)
	})
}

// overlaps counts nodes that stand on another.
const overlaps = `(() => {
	const boxes = [...document.querySelectorAll(".box rect")].map(e => e.getBoundingClientRect());
	let n = 0;
	boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => { if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) n++; }));
	return n;
})()`

// tab is the page in a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string
}

func (p *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (p *tab) open(t *testing.T, hash string, width, height int64) {
	t.Helper()
	p.do(t, chromedp.EmulateViewport(width, height), chromedp.Navigate("about:blank"), chromedp.Navigate(p.url+hash))
}

// want waits until an expression is true.
func (p *tab) want(t *testing.T, expression string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		is, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression))
		if err == nil && is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v, %v", expression, is, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-p.ctx.Done():
			t.Fatal(p.ctx.Err())
		}
	}
}

func (p *tab) picture(t *testing.T, name string) {
	t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.t.ArtifactDir(), name), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// save writes the page to a disk.
func save(t *testing.T, p docs.Project) string {
	t.Helper()
	page, err := docs.Page(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "index.html")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func models[N any](nodes map[string]N) int { return withPrefix(nodes, "model.") }
func seeds[N any](nodes map[string]N) int  { return withPrefix(nodes, "seed.") }

func withPrefix[N any](nodes map[string]N, prefix string) (n int) {
	for id := range nodes {
		if strings.HasPrefix(id, prefix) {
			n++
		}
	}
	return n
}
