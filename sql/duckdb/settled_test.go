package duckdb

import (
	"errors"
	"testing"
)

// A batch that lands behind a reader's back must not be missing while the one
// after it is there.
func TestSettled(t *testing.T) {
	first, second := batch{spool: "s", first: 0, last: 1}, batch{spool: "s", first: 1, last: 2}
	lists := [][]batch{nil, {second}, {first, second}, {first, second}, nil}
	read := 0
	got, err := settled(func() ([]batch, error) { read++; return lists[read-1], nil })
	if err != nil || len(got) != 2 || read != 4 {
		t.Errorf("got %v, %v after %d lists", got, err, read)
	}
	broken := errors.New("broken")
	if _, err := settled(func() ([]batch, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a folder that cannot be read: %v", err)
	}
	read = 0
	if _, err := settled(func() ([]batch, error) { read++; return make([]batch, read), nil }); err == nil {
		t.Error("no end was found to changes without end")
	}
}
