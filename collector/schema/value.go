package schema

import (
	"math"
	"strconv"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

// Bounds of a value that is validated. They are those of what lands of one.
const (
	maxDepth  = 16
	maxValues = 512
	maxText   = 8 << 10
)

// plain is a value as the library takes it. rule is the bound that it exceeds,
// if it does. Numbers become int64 or float64: as texts they would be read with
// any precision, of which a few bytes can ask for gigabytes.
func plain(object jsontree.Value) (value map[string]any, rule string) {
	c := converter{left: maxValues}
	value = c.object(object, 1)
	return value, c.rule
}

type converter struct {
	left int
	rule string
}

func (c *converter) object(v jsontree.Value, depth int) map[string]any {
	object := make(map[string]any, 8)
	for name, member := range v.Members() {
		if c.rule != "" {
			break
		}
		object[name] = c.value(member, depth)
	}
	return object
}

func (c *converter) value(v jsontree.Value, depth int) any {
	if c.left--; c.left < 0 || depth > maxDepth {
		c.rule = "too many values or levels"
		return nil
	}
	switch v.Kind() {
	case jsontree.String:
		if len(v.Text()) > maxText {
			c.rule = "too long a text"
			return nil
		}
		return v.Text()
	case jsontree.Number:
		return c.number(v.Text())
	case jsontree.True, jsontree.False:
		return v.Kind() == jsontree.True
	case jsontree.Object:
		return c.object(v, depth+1)
	case jsontree.Array:
		list := []any{}
		for element := range v.Elements() {
			if c.rule != "" {
				break
			}
			list = append(list, c.value(element, depth+1))
		}
		return list
	case jsontree.Null, jsontree.Missing:
	}
	return nil
}

func (c *converter) number(text string) any {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		c.rule = "too large a number"
		return nil
	}
	return f
}

// TooLarge tells whether an object exceeds the bounds, so that it is valid under
// no schema.
func TooLarge(object jsontree.Value) bool {
	_, rule := plain(object)
	return rule != ""
}
