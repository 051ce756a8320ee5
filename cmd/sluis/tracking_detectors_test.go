package main

import (
	"os"
	"strings"
	"testing"
)

// TestREADMEShowsTheDetectors holds the README to what is measured.
func TestREADMEShowsTheDetectors(t *testing.T) {
	m, err := measureDetectors(detectorSeed, detectorTexts)
	if err != nil {
		t.Fatal(err)
	}
	table := markdownTable(detectorColumns(), m.rows())
	text, err := os.ReadFile("../../collector/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), table) {
		t.Errorf("collector/README.md does not show what is measured:\n%s", table)
	}
}

func markdownTable(columns []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(columns)
	b.WriteString(strings.Repeat("|---", len(columns)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}
