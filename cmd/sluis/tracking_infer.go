package main

import "github.com/urfave/cli/v2"

func inferCommand() *cli.Command { return &cli.Command{Name: "infer"} }
