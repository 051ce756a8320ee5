// Command scale calculates what Sluis needs and costs at a size, from the inputs in
// inputs.go. SCALE.md carries its tables:
//
//	go run ./cmd/internal/scale            prints them
//	go run ./cmd/internal/scale SCALE.md   writes them into the document
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "scale: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		for _, t := range tables() {
			fmt.Fprintf(out, "%s\n\n%s\n", t.name, t.markdown)
		}
		return nil
	}
	document, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	updated, err := update(string(document))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[0], []byte(updated), 0o644)
}

// update puts each table between its markers in the document.
func update(document string) (string, error) {
	for _, t := range tables() {
		begin, end := "<!-- "+t.name+" -->\n", "<!-- end -->"
		before, rest, ok := strings.Cut(document, begin)
		if !ok {
			return "", fmt.Errorf("there is no marker %q", strings.TrimSpace(begin))
		}
		_, after, ok := strings.Cut(rest, end)
		if !ok {
			return "", fmt.Errorf("there is no %q after the marker of %s", end, t.name)
		}
		document = before + begin + t.markdown + end + after
	}
	return document, nil
}
