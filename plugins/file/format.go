package file

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// The columns that every record begins with.
const (
	opColumn  = "_op"
	keyColumn = "_key"
	idColumn  = "_id"
)

// format is a way to write records. The same batch gives the same bytes.
type format interface {
	name() string // the extension
	// refuses names a column that the format cannot hold.
	refuses(columns []destination.Column, change destination.Change) (column string, bad bool)
	encode(batch destination.Batch) ([]byte, error)
	// count tells how many records a file has.
	count(content []byte) (int, error)
	// without is a file less the records with some keys, if there were any.
	without(content []byte, keys map[string]bool) (kept []byte, dropped bool, err error)
}

// formatOf is the format of a part, by its name; nil if it is none.
func formatOf(name string) format {
	if !strings.HasPrefix(name, partPrefix) {
		return nil
	}
	for _, f := range []format{csvFormat{}, jsonFormat{}, parquetFormat{}} {
		if path.Ext(name) == "."+f.name() {
			return f
		}
	}
	return nil
}

type csvFormat struct {
	guard bool
}

func (csvFormat) name() string { return "csv" }

func (csvFormat) refuses([]destination.Column, destination.Change) (string, bool) { return "", false }

func (f csvFormat) encode(batch destination.Batch) ([]byte, error) {
	var content bytes.Buffer
	out := csv.NewWriter(&content)
	record := []string{opColumn, keyColumn, idColumn}
	for _, column := range batch.Columns {
		record = append(record, f.text(column.Name))
	}
	_ = out.Write(record) // its error stays, for Error
	for _, change := range batch.Changes {
		record = append(record[:0], change.Op.String(), f.text(change.Key), f.text(change.ID))
		for _, v := range change.Values {
			record = append(record, f.cell(v))
		}
		_ = out.Write(record)
	}
	out.Flush()
	return content.Bytes(), out.Error()
}

func (f csvFormat) cell(v any) string {
	switch v := v.(type) {
	case string:
		return f.text(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	default:
		return ""
	}
}

// text guards what a spreadsheet would take for a formula.
func (f csvFormat) text(s string) string {
	if f.guard && s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (csvFormat) count(content []byte) (int, error) {
	in := csv.NewReader(bytes.NewReader(content))
	in.ReuseRecord = true
	for n := -1; ; n++ { // the first is the header
		if _, err := in.Read(); errors.Is(err, io.EOF) {
			return max(n, 0), nil
		} else if err != nil {
			return 0, err
		}
	}
}

func (csvFormat) without(content []byte, keys map[string]bool) (_ []byte, dropped bool, err error) {
	var kept bytes.Buffer
	in, out := csv.NewReader(bytes.NewReader(content)), csv.NewWriter(&kept)
	for first := true; ; first = false {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			out.Flush()
			return kept.Bytes(), dropped, out.Error()
		}
		if err != nil {
			return nil, false, err
		}
		// Whether formulas were guarded when it was written is not known.
		if !first && len(record) > 1 && (keys[record[1]] || keys[strings.TrimPrefix(record[1], "'")]) {
			dropped = true
			continue
		}
		_ = out.Write(record) // its error stays, for Error
	}
}

type jsonFormat struct{}

func (jsonFormat) name() string { return "jsonl" }

func (jsonFormat) refuses(columns []destination.Column, change destination.Change) (string, bool) {
	for i, v := range change.Values {
		if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			return columns[i].Name, true
		}
	}
	return "", false
}

func (jsonFormat) encode(batch destination.Batch) ([]byte, error) {
	out := &bytes.Buffer{}
	for _, change := range batch.Changes {
		member(out, '{', opColumn, change.Op.String())
		member(out, ',', keyColumn, change.Key)
		member(out, ',', idColumn, change.ID)
		for i, v := range change.Values {
			if t, ok := v.(time.Time); ok {
				v = t.UTC().Format(time.RFC3339Nano) // also for years that JSON times do not have
			}
			member(out, ',', batch.Columns[i].Name, v)
		}
		out.WriteString("}\n")
	}
	return out.Bytes(), nil
}

// member writes one member of an object, in the order of the columns, which a
// map would lose.
func member(out *bytes.Buffer, before byte, name string, value any) {
	out.WriteByte(before)
	out.Write(encode(name))
	out.WriteByte(':')
	out.Write(encode(value))
}

// encode is the JSON of a value that refuses has let through: it cannot fail.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (jsonFormat) count(content []byte) (int, error) {
	return bytes.Count(content, []byte("\n")), nil
}

func (jsonFormat) without(content []byte, keys map[string]bool) (kept []byte, dropped bool, err error) {
	for line := range bytes.Lines(content) {
		var record struct {
			Key string `json:"_key"`
		}
		if json.Unmarshal(line, &record) != nil {
			return nil, false, errors.New("a line is not JSON")
		}
		if keys[record.Key] {
			dropped = true
			continue
		}
		kept = append(kept, line...)
	}
	return kept, dropped, nil
}
