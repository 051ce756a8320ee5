package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "why the models say what they say",
		Subcommands: []*cli.Command{{
			Name: "identity", Usage: "why identifiers are, or are not, one person's", ArgsUsage: "[PSEUDONYM...]",
			Flags: append(subjectFlags(), jsonFlag()),
			Description: "By the models as they were built last: the profile, its identifiers, the links that join them, those that join\n" +
				"nobody and why, what is shared, what consent cuts, and how it came about. What several people have, and who is blocked,\n" +
				"is set in the seeds identifier_kinds, identity_pair_limits and identity_blocked.",
			Action: explainIdentity,
		}},
	}
}

func explainIdentity(c *cli.Context) error {
	w, err := openWorkspace(c)
	if err != nil {
		return err
	}
	s, err := newSubjects(c.Context, w, "sluis explain identity", newLogger(c), c.App.ErrWriter)
	if err != nil {
		return err
	}
	who := given(c)
	who.Pseudonyms = append(who.Pseudonyms, c.Args().Slice()...)
	e, err := s.ExplainIdentity(c.Context, who)
	if errors.Is(err, subject.ErrNothingGiven) {
		return usage("name the person: a PSEUDONYM, --email, --phone, --user-id or --anonymous-id")
	}
	if errors.Is(err, subject.ErrUnknown) {
		return usage("%v", err)
	}
	if err != nil {
		return wrongly(err)
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, e)
	}
	return e.WritePage(c.App.Writer)
}
