package collector

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRecordKeepsEveryField fills each field of each row at random: one that
// code forgets would come back empty.
func TestRecordKeepsEveryField(t *testing.T) {
	for seed := range uint64(200) {
		var r Record
		fill(reflect.ValueOf(&r).Elem(), rand.New(rand.NewPCG(seed, 1)))
		got, err := ParseRecord(r.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Fatalf("seed %d (-in +out)\n%s", seed, diff)
		}
	}
}

// fill sets everything but Origin, which a record does not carry.
func fill(v reflect.Value, random *rand.Rand) {
	switch v.Interface().(type) {
	case Origin:
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMicro(random.Int64N(1 << 51)).UTC()))
		return
	}
	switch v.Kind() { //nolint:exhaustive // rows have no others
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, random)
		}
	case reflect.Slice:
		n := 1 + random.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), random)
		}
	case reflect.String:
		v.SetString(string(rune('a'+random.IntN(26))) + strings.Repeat("x", random.IntN(200)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(random.Int64() - random.Int64())
	case reflect.Uint8:
		v.SetUint(random.Uint64N(256))
	default:
		panic("no random " + v.Type().String())
	}
}

func TestRecordOfNothing(t *testing.T) {
	got, err := ParseRecord(new(Record).AppendTo(nil))
	if err != nil || !got.ReceivedAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzRecord reads any bytes: an error or a record that is written the same
// way, and never more memory than a multiple of the bytes.
func FuzzRecord(f *testing.F) {
	var r Record
	fill(reflect.ValueOf(&r).Elem(), rand.New(rand.NewPCG(1, 1)))
	f.Add(r.AppendTo(nil))
	f.Add([]byte{recordVersion})
	f.Add([]byte{recordVersion, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		again, err := ParseRecord(r.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
