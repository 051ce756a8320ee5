package seal

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestKeeper(t *testing.T) {
	dir := Dir(t.TempDir())
	if _, err := NewKeeper(t.Context(), dir, "w"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	keeper := func(workspace string) *Keeper {
		t.Helper()
		k, err := NewKeeper(t.Context(), dir, workspace)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	// It is made when it is asked for, and is no collector's.
	folder := OpenFolder(dir, nil)
	if _, err := folder.Init(t.Context(), []string{"marketing"}, Secrets{}); err != nil {
		t.Fatal(err)
	}
	if added, err := folder.Init(t.Context(), []string{"marketing"}, Secrets{Make: []string{KeyRemovals}}); err != nil || !slices.Equal(added, []string{KeyRemovals}) {
		t.Fatalf("%v, %v", added, err)
	}
	if exported, err := folder.Export(t.Context(), OpenFolder(Dir(t.TempDir()), nil)); err != nil || slices.Contains(exported, KeyRemovals) {
		t.Errorf("a collector has %v, %v", exported, err)
	}
	k := keeper("w")
	sealed := k.Seal("ads", "pr_1", "ann@example.org")
	if strings.Contains(sealed, "ann") || sealed == k.Seal("ads", "pr_1", "ann@example.org") {
		t.Errorf("sealed %q", sealed)
	}
	if err := dir.Add(Version(KeyRemovals, 2), randomKey()); err != nil {
		t.Fatal(err)
	}
	rotated := keeper("w")
	for _, k := range []*Keeper{k, rotated} {
		if got, err := k.Open("ads", "pr_1", sealed); err != nil || got != "ann@example.org" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := k.Open("ads", "pr_1", rotated.Seal("ads", "pr_1", "x")); !errors.Is(err, ErrNoKey) {
		t.Errorf("sealed with a later key: %v", err)
	}
	last := len(sealed) - 1
	for name, open := range map[string]func() (string, error){
		"another workspace": func() (string, error) { return keeper("v").Open("ads", "pr_1", sealed) },
		"another sync":      func() (string, error) { return k.Open("mail", "pr_1", sealed) },
		"another key":       func() (string, error) { return k.Open("ads", "pr_2", sealed) },
		"cut":               func() (string, error) { return k.Open("ads", "pr_1", sealed[:last-3]) },
		"no text":           func() (string, error) { return k.Open("ads", "pr_1", sealed[:last]+"!") },
		"no form":           func() (string, error) { return k.Open("ads", "pr_1", "ann@example.org") },
		"empty":             func() (string, error) { return k.Open("ads", "pr_1", "") },
	} {
		if got, err := open(); err == nil || strings.Contains(err.Error(), "ann") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
