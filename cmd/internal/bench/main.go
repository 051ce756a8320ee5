// Command bench loads the collector and two references on this machine, one
// after the other, and prints them side by side:
//
//	decode         net/http reads the body, encoding/json decodes it, nothing is stored
//	decode+fsync   the same, then appends to one file, one write and fsync for all requests that wait
//	ingest         the collector with all its privacy steps, into its spool
//	collector      the program sluis-collector, which lands in Parquet files at the same time
//
// Each is a process of its own, so that processor time and memory are its own.
// The load generator runs on the same processors: compare the figures of one
// run with each other, and with nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	serve := flags.String("serve", "", "be one of the servers")
	sluis := flags.String("sluis", "bin/sluis", "the program that makes a workspace")
	program := flags.String("collector", "bin/sluis-collector", "the program to load")
	seconds := flags.Duration("for", 3*time.Second, "how long each load lasts")
	rounds := flags.Int("rounds", 3, "how often everything is done; the medians are printed")
	only := flags.String("only", "", "servers to load, separated by commas")
	loadsOnly := flags.String("load", "", "only loads whose name contains this, such as \"single, 64\"")
	profile := flags.String("profile", "", "write a processor profile of the server ingest to this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *serve != "" {
		return serveUntilKilled(*serve, *profile)
	}
	b := bench{duration: *seconds, servers: servers(*sluis, *program, *profile)}
	for _, l := range loads {
		if strings.Contains(l.String(), *loadsOnly) {
			b.loads = append(b.loads, l)
		}
	}
	if *only != "" {
		b.keep(strings.Split(*only, ","))
	}
	for range *rounds {
		if err := b.round(ctx); err != nil {
			return err
		}
	}
	return b.print(out)
}

// load is one way to send: how many connections, and how many events in each
// request.
type load struct{ connections, batch int }

func (l load) String() string {
	if l.batch == 1 {
		return fmt.Sprintf("single, %d", l.connections)
	}
	return fmt.Sprintf("batch of %d, %d", l.batch, l.connections)
}

// loads are those of BUDGETS.
var loads = []load{{1, 1}, {16, 1}, {64, 1}, {256, 1}, {16, 20}, {16, 100}, {64, 100}}

type bench struct {
	duration time.Duration
	servers  []server
	loads    []load
	results  map[load]map[string][]result
}

func (b *bench) keep(names []string) {
	var kept []server
	for _, s := range b.servers {
		for _, name := range names {
			if s.name == name {
				kept = append(kept, s)
			}
		}
	}
	b.servers = kept
}

// round loads each server with each load. The servers take turns, so that a
// machine that is slow for a while is slow for all.
func (b *bench) round(ctx context.Context) error {
	if b.results == nil {
		b.results = make(map[load]map[string][]result)
	}
	for _, l := range b.loads {
		if b.results[l] == nil {
			b.results[l] = make(map[string][]result)
		}
		for _, s := range b.servers {
			r, err := measure(ctx, s, l, b.duration)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", s.name, l, err)
			}
			b.results[l][s.name] = append(b.results[l][s.name], r)
		}
	}
	return nil
}

// measure starts a server, loads it and ends it.
func measure(ctx context.Context, s server, l load, duration time.Duration) (result, error) {
	p, err := s.start(ctx)
	if err != nil {
		return result{}, err
	}
	var r result
	if err = introduce(ctx, p.address); err == nil {
		r, err = generate(ctx, p.address, l, duration, p.usage)
	}
	return r, errors.Join(err, p.end())
}

func (b *bench) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "load\tserver\tevents/s\tratio¹\tp50 ms\tp99 ms\tCPU µs/event\tRSS MiB\t")
	for _, l := range b.loads {
		reference := median(b.results[l]["decode+fsync"], func(r result) float64 { return r.perSecond })
		for _, s := range b.servers {
			of := func(figure func(result) float64) float64 { return median(b.results[l][s.name], figure) }
			rate := of(func(r result) float64 { return r.perSecond })
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.0f\t\n", l, s.name, rate, rate/reference,
				of(func(r result) float64 { return r.p50.Seconds() * 1000 }), of(func(r result) float64 { return r.p99.Seconds() * 1000 }),
				of(func(r result) float64 { return r.cpuPerEvent.Seconds() * 1e6 }), of(func(r result) float64 { return float64(r.rss) / (1 << 20) }))
		}
	}
	fmt.Fprintln(w, "\n¹ to decode+fsync, in the same run")
	return w.Flush()
}
