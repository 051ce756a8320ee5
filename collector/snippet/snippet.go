// Package snippet has the script that pages load, and serves it.
//
// The source is in src; dist has it minified, one file for each version, and
// is what is embedded. A version that was released keeps its file for as long
// as pages may ask for it: their tags name its integrity hash, so nothing else
// will do. `go generate` builds the current version anew.
package snippet

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
)

//go:generate go test -count=1 -run ^TestBuilt$ . -update

// Version of the script. It changes whenever the script does after a release.
const Version = "1.0.0"

//go:embed dist/*.js
var dist embed.FS

// Script is a file that pages load. It serves itself; safe for concurrent use.
type Script struct {
	Name string // below the collector's path, such as "sluis-1.0.0.js"
	Body []byte
	// Integrity is the value of the tag's attribute (W3C Subresource Integrity),
	// and of a Content-Security-Policy's source.
	Integrity string
	forever   bool // the name says the version, so the body never changes
	zipped    func() []byte
}

// Current is the script itself, and Stub what keeps calls until it has come.
func Current() *Script { return must("sluis") }

// Stub keeps calls until the script has come.
func Stub() *Script { return must("stub") }

// must finds a file of the current version. It is embedded: a test loads both.
func must(name string) *Script {
	body, err := dist.ReadFile("dist/" + name + "-" + Version + ".js")
	if err != nil {
		panic(err)
	}
	return newScript(name+"-"+Version+".js", body, true)
}

// Scripts are all files to serve: every version that is kept and, as sluis.js
// and stub.js, the current one for pages whose tags have no integrity hash.
func Scripts() []*Script {
	scripts := []*Script{
		newScript("sluis.js", Current().Body, false),
		newScript("stub.js", Stub().Body, false),
	}
	files, err := fs.Glob(dist, "dist/*.js")
	if err != nil {
		panic(err) // the pattern is malformed
	}
	for _, file := range files {
		body, err := dist.ReadFile(file)
		if err != nil {
			panic(err) // it was listed
		}
		scripts = append(scripts, newScript(strings.TrimPrefix(file, "dist/"), body, true))
	}
	return scripts
}

func newScript(name string, body []byte, forever bool) *Script {
	sum := sha512.Sum384(body)
	return &Script{
		Name: name, Body: body, forever: forever,
		Integrity: "sha384-" + base64.StdEncoding.EncodeToString(sum[:]),
		zipped:    sync.OnceValue(func() []byte { return zip(body) }),
	}
}

// Zipped is the body as it goes over the wire.
func (s *Script) Zipped() []byte { return s.zipped() }

func zip(body []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// ServeHTTP lets any page load the script: there is nothing of anybody in it.
func (s *Script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Del("Access-Control-Allow-Credentials")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cache-Control", "public, max-age=3600")
	if s.forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Add("Vary", "Accept-Encoding")
	etag := `"` + s.Integrity + `"`
	h.Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := s.Body
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = s.Zipped()
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body) // the client may be gone
}
