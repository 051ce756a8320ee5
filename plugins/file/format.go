package file

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
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
	write(w io.Writer, batch destination.Batch) error
	// count tells how many records a file has.
	count(r io.Reader) (int, error)
	// without copies a file less the records with some keys, and tells whether there
	// were any.
	without(r io.Reader, w io.Writer, keys map[string]bool) (dropped bool, err error)
}

type csvFormat struct {
	guard bool
}

func (csvFormat) name() string { return "csv" }

func (csvFormat) refuses([]destination.Column, destination.Change) (string, bool) { return "", false }

func (f csvFormat) write(w io.Writer, batch destination.Batch) error {
	out := csv.NewWriter(w)
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
	return out.Error()
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

func (csvFormat) count(r io.Reader) (int, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	for n := -1; ; n++ { // the first is the header
		if _, err := in.Read(); errors.Is(err, io.EOF) {
			return max(n, 0), nil
		} else if err != nil {
			return 0, err
		}
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

func (jsonFormat) write(w io.Writer, batch destination.Batch) error {
	out := bufio.NewWriter(w)
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
		_, _ = out.WriteString("}\n") // its error stays, for Flush
	}
	return out.Flush()
}

// member writes one member of an object, in the order of the columns, which a
// map would lose.
func member(out *bufio.Writer, before byte, name string, value any) {
	_ = out.WriteByte(before)
	_, _ = out.Write(encode(name))
	_ = out.WriteByte(':')
	_, _ = out.Write(encode(value))
}

// encode is the JSON of a value that refuses has let through: it cannot fail.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (jsonFormat) count(r io.Reader) (int, error) {
	n, buffer := 0, make([]byte, 64<<10)
	for {
		read, err := r.Read(buffer)
		n += bytes.Count(buffer[:read], []byte("\n"))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
