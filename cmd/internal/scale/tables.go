package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// rates are the sizes that the tables show, in events a second.
var rates = []float64{10, 100, 1_000, 10_000, 100_000, 1_000_000}

// table is a part of SCALE.md.
type table struct{ name, markdown string }

func tables() []table {
	return []table{
		{"in short", inShort()},
		{"machines", machinesTable()},
		{"costs", costsTable()},
		{"per million events", perMillionTable()},
		{"models", modelsTable()},
		{"syncs", syncsTable()},
		{"limits", limitsTable()},
		{"inputs", inputsList()},
	}
}

// perRate writes one row for each of some rates.
func perRate(some []float64, header []string, row func(w workload) []string) string {
	var rows [][]string
	for _, rate := range some {
		w := at(rate)
		rows = append(rows, append([]string{number(rate)}, row(w)...))
	}
	return markdown(append([]string{"events/s"}, header...), rows)
}

// inShort answers in sentences.
func inShort() string {
	quota := func(v variant, builds float64) string {
		return number(rateWhere(scanTiBPerDay*tib, func(w workload) float64 { return scannedPerBuild(w, v) * builds }))
	}
	peak := func(w workload) float64 { return w.rate * peakFactor * w.landedBytes() }
	lines := []string{
		fmt.Sprintf("**Up to %s events kept** (%s event/s for a year, or %s for 30 days): one machine with the embedded warehouse. Nothing below applies.",
			number(embeddedEvents()), number(embeddedEvents()/retentionDays/day), number(embeddedEvents()/30/day)),
		fmt.Sprintf("**Collecting and landing are not what ends it**: one machine of %s cores takes an average of %s events/s, and the Storage Write API's quota ends at %s in a region and %s in US or EU. A million events land for €%s, or by load jobs for nothing.",
			number(coresPerMachine), number(eventsPerMachine()/peakFactor), number(rateWhere(writeBytesRegion, peak)), number(rateWhere(writeBytesMulti, peak)), number(writePrice(1e6*at(1).landedBytes()))),
		fmt.Sprintf("**Rebuilding the models whole is what ends it today**: with a year of events and %s builds a day, on-demand queries meet their daily quota at %s events/s; with one build a day at %s. Staging by day alone moves that to %s and %s only: it was %.0f %% of what a build reads, and has to find the days.",
			number(buildsPerDay), quota(wholeBuild, buildsPerDay), quota(wholeBuild, 1), quota(stagingByDay, buildsPerDay), quota(stagingByDay, 1),
			100*shareOf(staging)),
		fmt.Sprintf("**Audiences are the first to make incremental**: %s of them are %.0f %% of a build, since each reads all events. Were all that reads events by day, the quota would be met at %s events/s, and a million events would cost €%s instead of €%s.",
			number(audiences), 100*shareOf("pricing_and_chat"), quota(everyEventsByDay, buildsPerDay), modelsPrice(everyEventsByDay), modelsPrice(wholeBuild)),
		fmt.Sprintf("**Syncs read `deliveries` and `state` whole in each window** of up to %s rows: they alone meet the quota at %s events/s.",
			number(windowRows), number(rateWhere(scanTiBPerDay*tib, func(w workload) float64 { return syncsOf(w).perDay }))),
	}
	return "- " + strings.Join(lines, "\n- ") + "\n"
}

// shareOf is a model's share of what a whole build reads.
func shareOf(name string) float64 {
	w := at(1000)
	for _, m := range models {
		if m.name == name {
			return m.scanned(w, wholeBuild) / scannedPerBuild(w, wholeBuild)
		}
	}
	return 0
}

// modelsPrice is what builds cost for a million events.
func modelsPrice(v variant) string {
	w := at(1000)
	return number(scanPrice(scannedPerBuild(w, v)*buildsPerDay) / w.millionsPerDay())
}

// machinesTable: what do I need?
func machinesTable() string {
	header := []string{
		"people", "MB/s landed", "machines", "spools", "streams", "loaded every", "all tables", "4 GiB of spool outlast", "spool for a day", "slots, whole", "slots, all by day",
	}
	return perRate(rates, header, func(w workload) []string {
		return []string{
			number(w.persons), number(w.rate * w.landedBytes() / 1e6), number(machines(w)), number(spools(w)), number(spools(w) * landingTables),
			duration(shortestLoadInterval(machines(w))), size(stored(w)), duration(3600 * outageHours(w, spools(w))), size(w.rate / spools(w) * spoolEventBytes * day),
			number(slots(scannedPerBuild(w, wholeBuild))), number(slots(scannedPerBuild(w, everyEventsByDay))),
		}
	})
}

// costsTable: what will it cost a month?
func costsTable() string {
	header := []string{
		"machines", "landing by the Write API", "storage", "models, whole", "… staging by day", "… all by day", "syncs",
	}
	return perRate(rates, header, func(w workload) []string {
		landed := w.rate * day * month * w.landedBytes()
		cells := []string{
			number(machines(w) * coresPerMachine * usdCoreMonth * eurPerUSD),
			number(writePrice(math.Max(0, landed-2*tib))),
			number(storagePrice(w)),
		}
		for _, v := range variants {
			cells = append(cells, monthly(scannedPerBuild(w, v)*buildsPerDay))
		}
		return append(cells, monthly(syncsOf(w).perDay))
	})
}

// monthly is the price of a month of queries that read so many bytes a day, marked
// if the project's quota does not allow them.
func monthly(bytes float64) string {
	price := number(scanPrice(math.Max(0, bytes*month-tib)))
	if bytes > scanTiBPerDay*tib {
		return price + " ✗"
	}
	return price
}

// perMillionTable: what does it cost by the event?
func perMillionTable() string {
	w := at(100)
	rows := [][]string{
		{"landing, Storage Write API, above the free 2 TiB a month", number(writePrice(1e6 * w.landedBytes()))},
		{"landing, load jobs", "0"},
		{"storage of them and what is made of them, a year", number(storagePrice(w) * 12 / (w.events / 1e6))},
	}
	for _, v := range variants {
		build := scanPrice(scannedPerBuild(w, v)) / w.millionsPerDay()
		rows = append(rows, []string{v.name + ", " + number(buildsPerDay) + " builds a day (one build)", number(build*buildsPerDay) + " (" + number(build) + ")"})
	}
	for _, rate := range rates[1:3] {
		w := at(rate)
		rows = append(rows, []string{"syncs at " + number(rate) + " events/s", number(scanPrice(syncsOf(w).perDay) / w.millionsPerDay())})
	}
	return markdown([]string{"euro for a million events", "€"}, rows)
}

// modelsTable: what does a build read, and which models are it?
func modelsTable() string {
	w := at(1000)
	header := []string{"bytes read for each event kept"}
	total := []string{"**a build of all**"}
	for _, v := range variants {
		header = append(header, v.name)
		total = append(total, "**"+number(scannedPerBuild(w, v)/w.events)+"**")
	}
	var rows [][]string
	others, rest := 0, make([]float64, len(variants))
	for _, m := range models {
		switch {
		case m.view, len(m.reads) == 0: // what it reads is small
			continue
		case m.scanned(w, wholeBuild) < 0.01*scannedPerBuild(w, wholeBuild):
			others++
			for i, v := range variants {
				rest[i] += m.scanned(w, v)
			}
			continue
		}
		cells := []string{m.label()}
		for _, v := range variants {
			cells = append(cells, number(m.scanned(w, v)/w.events))
		}
		rows = append(rows, cells)
	}
	last := []string{fmt.Sprintf("the other %d, by person", others)}
	for _, bytes := range rest {
		last = append(last, number(bytes/w.events))
	}
	return markdown(header, append(rows, last, total))
}

func (m model) label() string {
	if m.audience {
		return number(m.times) + " audiences like `" + m.name + "`"
	}
	return "`" + m.name + "`"
}

// syncsTable: what do syncs need, at the sizes where they may work?
func syncsTable() string {
	header := []string{
		"rows a day", "windows", "jobs", "read by one window", "of it `deliveries`", "TiB a day",
	}
	return perRate(rates[:4], header, func(w workload) []string {
		s := syncsOf(w)
		return []string{number(s.rows), number(s.windows), number(s.jobs), size(s.perWindow), size(2 * wholeBytes(w, "deliveries")), number(s.perDay / tib)}
	})
}

// inputsList: what is all this made of?
func inputsList() string {
	var b strings.Builder
	for _, source := range sources {
		var list []string
		for _, i := range inputs {
			if i.source == source {
				list = append(list, i.name+" **"+i.amount()+"**")
			}
		}
		fmt.Fprintf(&b, "- %s: %s.\n", source, strings.Join(list, "; "))
	}
	return b.String()
}

func (i input) amount() string {
	if i.unit == "bytes" && i.value >= gib {
		return size(i.value)
	}
	text := number(i.value)
	if i.value < 1e6 {
		text = exact(i.value)
	}
	return strings.TrimSpace(text + " " + i.unit)
}

func markdown(header []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	b.WriteString("|---|" + strings.Repeat("---:|", len(header)-1) + "\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// number writes a result: whole numbers below 1,000 as they are, others with
// the two digits that an estimate deserves.
func number(x float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e12, " tn"}, {1e9, " bn"}, {1e6, " M"}} {
		if x >= unit.size {
			return digits(x/unit.size) + unit.name
		}
	}
	return digits(x)
}

func digits(x float64) string {
	if x != 0 && (x != math.Trunc(x) || x >= 1000) {
		scale := math.Pow(10, 1-math.Floor(math.Log10(x)))
		x = math.Round(x*scale) / scale
	}
	return exact(x)
}

// exact writes a number below a million as it is.
func exact(x float64) string {
	whole, fraction, found := strings.Cut(strconv.FormatFloat(x, 'f', -1, 64), ".")
	if len(whole) > 3 {
		whole = whole[:len(whole)-3] + "," + whole[len(whole)-3:]
	}
	if found {
		whole += "." + fraction
	}
	return whole
}

func size(bytes float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1 << 50, "PiB"}, {tib, "TiB"}, {gib, "GiB"}} {
		if bytes >= unit.size {
			return digits(bytes/unit.size) + " " + unit.name
		}
	}
	return digits(bytes/(1<<20)) + " MiB"
}

func duration(seconds float64) string {
	switch {
	case seconds >= 2*day:
		return digits(math.Round(seconds/day)) + " days"
	case seconds >= 2*3600:
		return digits(math.Round(seconds/3600)) + " h"
	case seconds >= 120:
		return digits(math.Round(seconds/60)) + " min"
	}
	return digits(math.Round(seconds)) + " s"
}
