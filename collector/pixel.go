package collector

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// gif is an image of one transparent point.
var gif = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// servePixel takes the event of an image's address: as base64 of JSON in the
// parameter data, or field by field, "properties.total=9". The answer is the
// image whatever came of it, since a page or mail would show a broken one;
// Sluis-Error has the code of an error. So 200 does not mean here that the event
// is on disk.
func (c *Collector) servePixel(w http.ResponseWriter, r *http.Request) {
	if err := c.acceptPixel(w, r); err != nil {
		w.Header().Set("Sluis-Error", c.explain(err).code)
	}
	w.Header().Set("Content-Type", "image/gif")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(gif) // nobody is left to be told
}

func (c *Collector) acceptPixel(w http.ResponseWriter, r *http.Request) error {
	typ, ok := calls[r.PathValue("call")]
	if !ok {
		return errNoPath
	}
	text, err := pixelMessage(r.URL.Query())
	if err != nil {
		return err
	}
	tree := trees.Get()
	defer trees.Put(tree)
	if err := tree.Parse(text); err != nil || tree.Root().Kind() != jsontree.Object {
		return errNotJSON
	}
	req, err := c.open(r, tree.Root())
	if err != nil {
		return err
	}
	_, err = c.accept(r.Context(), req, []message{{typ: typ, body: tree.Root()}})
	c.keepVisitor(w, req, false)
	return err
}

// pixelMessage is the event as JSON.
func pixelMessage(query url.Values) (string, error) {
	if data := query.Get("data"); data != "" {
		// Of either alphabet, padded or not; a + that was not escaped came as a space.
		data = strings.TrimRight(strings.NewReplacer(" ", "+", "-", "+", "_", "/").Replace(data), "=")
		text, err := base64.RawStdEncoding.DecodeString(data)
		if err != nil {
			return "", &httpError{http.StatusBadRequest, "invalid_base64", "the parameter data is not base64", ""}
		}
		return string(text), nil
	}
	object := make(map[string]any)
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		put(object, strings.SplitN(name, ".", maxDepth), query.Get(name))
	}
	text, err := json.Marshal(object)
	return string(text), err
}

// put sets the field at a path, unless a part of the path has a value itself.
// true and false are no texts: consent is said by them.
func put(object map[string]any, path []string, value string) {
	for ; len(path) > 1; path = path[1:] {
		switch next := object[path[0]].(type) {
		case nil:
			inner := make(map[string]any)
			object[path[0]] = inner
			object = inner
		case map[string]any:
			object = next
		default:
			return
		}
	}
	switch value {
	case "true", "false":
		object[path[0]] = value == "true"
	default:
		object[path[0]] = value
	}
}
