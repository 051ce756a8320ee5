package main

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/collector/personal/corpus"
)

func detectorsCommand() *cli.Command {
	return &cli.Command{
		Name:  "detectors",
		Usage: "what the detectors of personal data find and miss, of texts made up for it with the truth about each; needs no workspace",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Value: detectorSeed, Usage: "of the generator: the same gives the same texts"},
			&cli.IntFlag{Name: "texts", Value: detectorTexts, Usage: "how many to generate"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Int("texts") < 1 {
				return usage("--texts wants a number from 1 on")
			}
			m, err := measureDetectors(c.Uint64("seed"), c.Int("texts"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, m)
			}
			m.print(c.App.Writer)
			return nil
		},
	}
}

// What the README's figures are of.
const (
	detectorSeed  = 2026
	detectorTexts = 50_000
)

// measured is what detectors made of the corpora.
type measured struct {
	Seed      uint64        `json:"seed"`
	Generated corpus.Report `json:"generated"`           // where the workspace says in which country it is
	NoRegion  corpus.Report `json:"generated_no_region"` // where it does not
	Written   corpus.Report `json:"handwritten"`         // with the region
}

func measureDetectors(seed uint64, texts int) (measured, error) {
	cases := corpus.Generate(seed, texts)
	written, err := corpus.Handwritten()
	return measured{seed, corpus.Measure(cases, false), corpus.Measure(cases, true), corpus.Measure(written, false)}, err
}

func (m measured) print(w io.Writer) {
	fmt.Fprintf(w, "%d generated texts (seed %d), half of them with something personal, half with what only looks like it:\n\n", m.Generated.Texts, m.Seed)
	printTable(w, detectorColumns(), m.rows())
	fmt.Fprintln(w, "\nIn which forms, of what is personal:")
	fmt.Fprintln(w)
	var rows [][]string
	for i, s := range m.Generated.Forms {
		if s.There > 0 {
			rows = append(rows, []string{s.Name, strconv.Itoa(s.There), percent(s.Recall()), percent(m.NoRegion.Forms[i].Recall())})
		}
	}
	printTable(w, []string{"form", "there", "found", "found without phone_region"}, rows)
	fmt.Fprintln(w, "\nWhat only looks like it:")
	fmt.Fprintln(w)
	rows = nil
	for _, s := range m.Generated.Near {
		rows = append(rows, []string{s.Name, strconv.Itoa(s.Texts), strconv.Itoa(s.Damage)})
	}
	printTable(w, []string{"what", "texts", "masked in part"}, rows)
	fmt.Fprintf(w, "\n%d texts written by hand:\n\n", m.Written.Texts)
	rows = nil
	for _, s := range m.Written.Kinds {
		rows = append(rows, []string{s.Name, strconv.Itoa(s.There), percent(s.Recall()), strconv.Itoa(s.Wrong)})
	}
	printTable(w, []string{"kind", "there", "found", "found wrongly"}, rows)
}

func detectorColumns() []string {
	return []string{"kind", "there", "recall", "precision", "recall without phone_region", "by hand: found"}
}

// rows is the table that the README shows.
func (m measured) rows() [][]string {
	rows := make([][]string, len(m.Generated.Kinds))
	for i, s := range m.Generated.Kinds {
		n := m.NoRegion.Kinds[i]
		byHand := "·"
		if h := m.Written.Kinds[i]; h.There > 0 { // the same kinds come first
			byHand = fmt.Sprintf("%d of %d", h.Found, h.There)
			if h.Wrong > 0 {
				byHand += fmt.Sprintf(", %d wrongly", h.Wrong)
			}
		}
		rows[i] = []string{s.Name, strconv.Itoa(s.There), percent(s.Recall()), percent(s.Precision()), percent(n.Recall()), byHand}
	}
	return rows
}

// percent rounds down: 100.0 % is all of them.
func percent(share float64) string {
	return fmt.Sprintf("%.1f %%", math.Floor(1000*share+1e-9)/10)
}
