package jinja

import (
	"fmt"
	"strings"
	"time"
)

// moment is a date, or a date and time, of Python's datetime; span is a
// timedelta. Times are of UTC.
type moment struct {
	time     time.Time
	dateOnly bool
	zoned    bool // it prints with its offset
}

type span struct{ length time.Duration }

// Moment is a time that templates have, with its zone as Python's has it.
func Moment(t time.Time) any { return moment{time: t.UTC(), zoned: true} }

// Date is a date that templates have.
func Date(t time.Time) any { return moment{time: t.UTC(), dateOnly: true} }

func (m moment) String() string {
	switch {
	case m.dateOnly:
		return m.time.Format("2006-01-02")
	case m.zoned:
		return m.text(" ") + "+00:00"
	}
	return m.text(" ")
}

// text is the time with as many digits of a second as Python's isoformat has.
func (m moment) text(separator string) string {
	layout := "2006-01-02" + separator + "15:04:05"
	if m.time.Nanosecond()/1000 != 0 {
		layout += ".000000"
	}
	return m.time.Format(layout)
}

func (m moment) member(name string) (any, bool, error) {
	var call Func
	switch name {
	case "year":
		return m.time.Year(), true, nil
	case "month":
		return int(m.time.Month()), true, nil
	case "day":
		return m.time.Day(), true, nil
	case "strftime":
		call = positional(name, 1, 1, func(a []any) (any, error) {
			format, err := textArg(a[0], "")
			if err != nil {
				return nil, err
			}
			return m.strftime(format)
		})
	case "isoformat":
		call = positional(name, 0, 0, func([]any) (any, error) {
			switch {
			case m.dateOnly:
				return m.String(), nil
			case m.zoned:
				return m.text("T") + "+00:00", nil
			}
			return m.text("T"), nil
		})
	case "weekday", "isoweekday":
		call = positional(name, 0, 0, func([]any) (any, error) {
			day := (int(m.time.Weekday()) + 6) % 7
			if name == "isoweekday" {
				day++
			}
			return day, nil
		})
	default:
		if m.dateOnly {
			return nil, false, errMoment(name)
		}
		switch name {
		case "hour":
			return m.time.Hour(), true, nil
		case "minute":
			return m.time.Minute(), true, nil
		case "second":
			return m.time.Second(), true, nil
		case "microsecond":
			return m.time.Nanosecond() / 1000, true, nil
		case "date":
			call = positional(name, 0, 0, func([]any) (any, error) { return moment{time: m.time.Truncate(24 * time.Hour), dateOnly: true}, nil })
		default:
			return nil, false, errMoment(name)
		}
	}
	return &method{name, call}, true, nil
}

func errMoment(name string) error {
	return errorf("a date has no %s here: it has year, month, day, strftime, isoformat, weekday, and a time has hour, minute, second, microsecond and date", name)
}

var strftimeLayouts = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon",
	'I': "03", 'p': "PM", 'F': "2006-01-02", 'T': "15:04:05", 'j': "002", 'f': "000000",
}

func (m moment) strftime(format string) (any, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		if i++; i == len(format) {
			return nil, errorf("the format of strftime ends in %%")
		}
		layout, ok := strftimeLayouts[format[i]]
		switch {
		case format[i] == '%':
			b.WriteByte('%')
		case format[i] == 'f':
			fmt.Fprintf(&b, "%06d", m.time.Nanosecond()/1000)
		case format[i] == 'z' && m.zoned:
			b.WriteString("+0000")
		case format[i] == 'Z' && m.zoned:
			b.WriteString("UTC")
		case format[i] == 'z' || format[i] == 'Z':
		case !ok:
			return nil, errorf("%%%c of strftime is not supported", format[i])
		default:
			b.WriteString(m.time.Format(layout))
		}
	}
	return b.String(), nil
}

// timeBinary adds and takes away spans, and tells the span between two moments.
func timeBinary(op string, a, b any) (any, bool, error) {
	if x, ok := a.(moment); ok {
		switch y := b.(type) {
		case span:
			if op == "+" || op == "-" {
				by := y.length
				if op == "-" {
					by = -by
				}
				if x.dateOnly { // of a span only whole days count, rounded down
					by = wholeDays(by)
				}
				x.time = x.time.Add(by)
				return x, true, nil
			}
		case moment:
			if op == "-" && x.dateOnly == y.dateOnly && x.zoned == y.zoned {
				return span{x.time.Sub(y.time)}, true, nil
			}
		}
		return nil, false, nil
	}
	x, ok := a.(span)
	if !ok {
		return nil, false, nil
	}
	switch y := b.(type) {
	case span:
		if op == "+" {
			return span{x.length + y.length}, true, nil
		}
		if op == "-" {
			return span{x.length - y.length}, true, nil
		}
	case moment:
		if op == "+" {
			return timeBinary("+", y, x)
		}
	case int:
		if op == "*" && abs(y) < 1_000_000 && x.length.Abs() < 1000*24*time.Hour {
			return span{x.length * time.Duration(y)}, true, nil
		}
	}
	return nil, false, nil
}

// timeOrder compares two moments or spans.
func timeOrder(a, b any) (int, bool) {
	switch x := a.(type) {
	case moment:
		if y, ok := b.(moment); ok && x.dateOnly == y.dateOnly && x.zoned == y.zoned {
			return x.time.Compare(y.time), true
		}
	case span:
		if y, ok := b.(span); ok {
			return order(int(x.length), int(y.length)), true
		}
	}
	return 0, false
}

// wholeDays rounds down to days.
func wholeDays(d time.Duration) time.Duration {
	whole := d.Truncate(24 * time.Hour)
	if d < whole {
		whole -= 24 * time.Hour
	}
	return whole
}

func (s span) member(name string) (any, bool, error) {
	days := wholeDays(s.length)
	switch name {
	case "days":
		return int(days / (24 * time.Hour)), true, nil
	case "seconds":
		return int((s.length - days) / time.Second), true, nil
	case "total_seconds":
		return &method{name, positional(name, 0, 0, func([]any) (any, error) { return s.length.Seconds(), nil })}, true, nil
	}
	return nil, false, errorf("a timedelta has no %s here: it has days, seconds and total_seconds()", name)
}

// Datetime is Python's module of that name, as far as dbt's projects use it.
// now is called for the time.
func Datetime(now func() time.Time) *Object {
	naive := func() any { return moment{time: now().UTC().Truncate(time.Microsecond)} }
	today := func() any { return moment{time: now().UTC().Truncate(24 * time.Hour), dateOnly: true} }
	constructor := func(name string, dateOnly bool) Func {
		parameters := []string{"year", "month", "day", "hour?", "minute?", "second?", "microsecond?"}
		if dateOnly {
			parameters = parameters[:3]
		}
		return func(args []any, named *Dict) (any, error) {
			a, err := bindArgs(name, parameters, args, named)
			if err != nil {
				return nil, err
			}
			var n [7]int
			for i := range a {
				if n[i], err = intArg(a[i], 0); err != nil {
					return nil, err
				}
			}
			t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1000, time.UTC)
			if n[0] < 1000 || n[0] > 9999 || t.Month() != time.Month(n[1]) || t.Day() != n[2] || t.Hour() != n[3] || t.Minute() != n[4] || t.Second() != n[5] {
				return nil, errorf("%s: there is no such day or time", name)
			}
			return moment{time: t, dateOnly: dateOnly}, nil
		}
	}
	missing := func(of string) func(string) error {
		return func(name string) error {
			return errorf("modules.datetime.%s%s is not supported: compute it in SQL", of, name)
		}
	}
	nothing := func(of func() any) Func {
		return positional("now", 0, 0, func([]any) (any, error) { return of(), nil })
	}
	return &Object{Attributes: map[string]any{
		"datetime": &Object{
			Call:       constructor("datetime", false),
			Attributes: map[string]any{"now": nothing(naive), "utcnow": nothing(naive), "today": nothing(naive), "strptime": Func(strptime)},
			Missing:    missing("datetime."),
		},
		"date":      &Object{Call: constructor("date", true), Attributes: map[string]any{"today": nothing(today)}, Missing: missing("date.")},
		"timedelta": &Object{Call: timedelta, Missing: missing("timedelta.")},
	}, Missing: missing("")}
}

func timedelta(args []any, named *Dict) (any, error) {
	a, err := bindArgs("timedelta", []string{"days?", "seconds?", "microseconds?", "milliseconds?", "minutes?", "hours?", "weeks?"}, args, named)
	if err != nil {
		return nil, err
	}
	total := time.Duration(0)
	for i, unit := range []time.Duration{24 * time.Hour, time.Second, time.Microsecond, time.Millisecond, time.Minute, time.Hour, 7 * 24 * time.Hour} {
		n, err := intArg(a[i], 0)
		if err != nil {
			return nil, err
		}
		if abs(n) > int(100*365*24*time.Hour/unit) {
			return nil, errorf("a timedelta is at most 100 years long here")
		}
		total += time.Duration(n) * unit
	}
	return span{total}, nil
}

func strptime(args []any, named *Dict) (any, error) {
	a, err := bindArgs("strptime", []string{"/text", "/format"}, args, named)
	if err != nil {
		return nil, err
	}
	text, err := textArg(a[0], "")
	if err != nil {
		return nil, err
	}
	format, err := textArg(a[1], "")
	if err != nil {
		return nil, err
	}
	layout := format
	for _, code := range []byte("YmdHMS") {
		layout = strings.ReplaceAll(layout, "%"+string(code), strftimeLayouts[code])
	}
	if strings.Contains(layout, "%") {
		return nil, errorf("the format %s of strptime is not supported: it may have %%Y %%m %%d %%H %%M %%S", quoted(format))
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return nil, errorf("%s is not of the format %s", quoted(text), quoted(format))
	}
	return moment{time: t}, nil
}
