package snippet

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "build dist anew")

// build minifies a source file, the same on every machine.
func build(t *testing.T, file string) []byte {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	result := api.Transform(string(source), api.TransformOptions{
		Sourcefile: file, Target: api.ES2020, Define: map[string]string{"VERSION": `"` + Version + `"`},
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
	})
	for _, message := range append(result.Errors, result.Warnings...) {
		t.Errorf("%s:%d: %s", file, message.Location.Line, message.Text)
	}
	return result.Code
}

// TestBuilt holds the files that are checked in to their source.
func TestBuilt(t *testing.T) {
	for _, name := range []string{"sluis", "stub"} {
		want, path := build(t, "src/"+name+".js"), "dist/"+name+"-"+Version+".js"
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what src/%s.js becomes (%v): run go generate, with a new Version if the old one was released", path, name, err)
		}
	}
}

// TestSize is the budget.
func TestSize(t *testing.T) {
	if n := len(Current().Zipped()); n > 3<<10 {
		t.Errorf("the script has %d bytes, gzipped; 3072 are allowed", n)
	} else {
		t.Logf("%d bytes, gzipped", n)
	}
	if n := len(Stub().Body); n > 300 {
		t.Errorf("the stub has %d bytes", n)
	}
}

// TestNothingThatAStrictPolicyForbids looks for what would need unsafe-eval,
// unsafe-inline or another host.
func TestNothingThatAStrictPolicyForbids(t *testing.T) {
	for _, s := range Scripts() {
		for _, word := range []string{"eval(", "Function(", "innerHTML", "document.write", ".style", "http://", "https://"} {
			if bytes.Contains(s.Body, []byte(word)) {
				t.Errorf("%s has %s", s.Name, word)
			}
		}
	}
}

func TestServe(t *testing.T) {
	scripts := make(map[string]*Script)
	for _, s := range Scripts() {
		scripts[s.Name] = s
	}
	for name, cache := range map[string]string{
		"sluis.js": "public, max-age=3600", "stub.js": "public, max-age=3600",
		"sluis-" + Version + ".js": "public, max-age=31536000, immutable",
		"stub-" + Version + ".js":  "public, max-age=31536000, immutable",
	} {
		s := scripts[name]
		if s == nil {
			t.Errorf("%s is not served", name)
			continue
		}
		get := func(headers ...string) *http.Response {
			r := httptest.NewRequest(http.MethodGet, "/"+name, nil)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			return w.Result()
		}
		plain, zipped := get(), get("Accept-Encoding", "br, gzip")
		if got := plain.Header.Get("Cache-Control"); got != cache {
			t.Errorf("%s: Cache-Control %q, want %q", name, got, cache)
		}
		if !strings.HasPrefix(plain.Header.Get("Content-Type"), "text/javascript") || plain.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: a page with an integrity hash cannot load it: %v", name, plain.Header)
		}
		text, err := io.ReadAll(plain.Body)
		if err != nil || !bytes.Equal(text, s.Body) {
			t.Errorf("%s: another body, %v", name, err)
		}
		reader, err := gzip.NewReader(zipped.Body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text, err = io.ReadAll(reader); err != nil || !bytes.Equal(text, s.Body) {
			t.Errorf("%s: another body, zipped, %v", name, err)
		}
		if again := get("If-None-Match", plain.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: asked again with its tag: %d", name, again.StatusCode)
		}
	}
	if Current().Integrity != scripts["sluis.js"].Integrity || Current().Integrity == Stub().Integrity {
		t.Error("the integrity hashes are not of the bodies")
	}
}
