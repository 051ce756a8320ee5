package main

import "math"

// limit is something that ends at a size: the average rate from which it binds,
// in events a second, and what to do then.
type limit struct {
	what  string
	value string
	reach string
	then  string
}

func limits() []limit {
	builds := func(v variant) string {
		return number(rateWhere(scanTiBPerDay*tib, func(w workload) float64 { return scannedPerBuild(w, v) * buildsPerDay }))
	}
	peakBytes := func(w workload) float64 { return w.rate * peakFactor * w.landedBytes() }
	streams := func(w workload) float64 { return spools(w) * landingTables }
	return []limit{
		{
			"embedded warehouse: a build takes half of the time until the next", number(embeddedEvents()) + " events kept",
			number(embeddedEvents() / retentionDays / day), "keep fewer days, build less often, or move to BigQuery",
		},
		{
			"queries on demand", number(scanTiBPerDay) + " TiB a day",
			builds(wholeBuild) + " whole, " + builds(stagingByDay) + " with staging by day, " + builds(everyEventsByDay) + " all by day",
			"build less often (once a day: × " + number(buildsPerDay) + "); raise the quota, or reserve slots; make the models below incremental",
		},
		{
			"slots instead, each reading " + number(slotBytes/1e6) + " MB/s (a guess)", number(slotsToReserve) + " in EU",
			number(rateWhere(slotsToReserve, func(w workload) float64 { return slots(scannedPerBuild(w, wholeBuild)) })) + " whole, " +
				number(rateWhere(slotsToReserve, func(w workload) float64 { return slots(scannedPerBuild(w, everyEventsByDay)) })) + " all by day",
			"a build of half the interval; a longer interval needs fewer",
		},
		{
			"queries of syncs alone", number(scanTiBPerDay) + " TiB a day",
			number(rateWhere(scanTiBPerDay*tib, func(w workload) float64 { return syncsOf(w).perDay })),
			"run them less often; then partition `deliveries` and cluster `state`, which is not built",
		},
		{
			"a sync sends one window after the other: " + number(windowJobs) + " jobs a window, " + number(jobSeconds) + " s each", number(rowsPerDay()) + " rows a day",
			number(rateWhere(rowsPerDay(), func(w workload) float64 { return syncsOf(w).rows })),
			"several syncs, each of a part of the rows",
		},
		{
			"load jobs into `deliveries`, and into `intents`, one a window", number(tableChangesPerDay) + " a day",
			number(rateWhere(tableChangesPerDay, func(w workload) float64 { return syncsOf(w).windows })),
			"run them less often; by a pending stream, which is not built, CreateWriteStream would end it at " +
				number(rateWhere(streamsPerHour*24, func(w workload) float64 { return syncsOf(w).windows })),
		},
		{
			"`landing: load`: load jobs into `events`", number(tableChangesPerDay) + " a day",
			number(rateWhere(tableChangesPerDay, func(w workload) float64 { return machines(w) * day / loadInterval })) + " (" + number(math.Floor(tableChangesPerDay*loadInterval/day)) + " collectors, each every " + duration(loadInterval) + ")",
			"a longer interval (column *loaded every*); the Storage Write API for what is urgent",
		},
		{
			"builds: each replaces each table once", number(tableChangesPerDay) + " a day", "any size",
			"`schedule.every` of " + duration(math.Ceil(day/tableChangesPerDay)) + " or more; the 30 s of a new workspace are for the embedded warehouse",
		},
		{
			"Storage Write API, bytes", number(writeBytesRegion/1e6) + " MB/s in a region, " + number(writeBytesMulti/1e9) + " GB/s in US or EU",
			number(rateWhere(writeBytesRegion, peakBytes)) + "; " + number(rateWhere(writeBytesMulti, peakBytes)) + " (at the peak)",
			"ask for more; `landing: load` for sources that can wait",
		},
		{
			"write connections", number(connectionsRegion) + " in a region, " + number(connectionsMulti) + " in US or EU",
			number(rateWhere(connectionsRegion, streams)) + "; " + number(rateWhere(connectionsMulti, streams)),
			"each spool holds " + number(landingTables) + " at most, for days; ask for more",
		},
		{
			"one connection, one for each table and spool", number(streamBytes/1e6) + " MB/s at least, maybe 10",
			number(rateWhere(2, spools)) + " a spool", "more collectors, each with its own spool (column *spools*)",
		},
		{
			"CreateWriteStream", number(streamsPerHour) + " an hour", number(rateWhere(streamsPerHour, streams)) + ", if all start anew within an hour",
			"streams are kept in the state file, over restarts",
		},
		{
			"request of AppendRows", number(requestBytes/1e6) + " MB", "never", "requests of 8 MiB at most, about " + number(8<<20/at(1).landedBytes()) + " events; batches of up to " + number(20_000) + " records, gathered for up to a second",
		},
		{
			"UPDATE, DELETE, MERGE on a table at once", number(mutationsAtOnce) + " run, " + number(mutationsWaiting) + " wait", "never",
			"a sync has one at a time; all syncs share `state` and `leases`: not more than " + number(mutationsAtOnce+mutationsWaiting) + " syncs at once",
		},
		{
			"changes of a table's metadata", number(updatesPer10s) + " in 10 s", "never", "a build makes and drops a table once; a window of a sync appends to two, in about " + number(windowJobs*jobSeconds) + " s",
		},
		{
			"partitions", number(partitionsPerTable) + " a table, " + number(partitionsPerJob) + " a job", "never",
			"a day each: " + number(math.Floor(partitionsPerTable/365)) + " years; a full refresh of a partitioned model writes " + number(math.Floor(partitionsPerJob/365)) + " years at once",
		},
		{
			"requests of an account", number(requestsPerSecond) + "/s a method; " + number(queriesWaiting) + " queries waiting", "never",
			"a build is " + number(buildJobs+(rounds-1)*roundJobs) + " jobs, at most `threads` of them at once: " + duration((buildJobs+(rounds-1)*roundJobs)*jobSeconds) + " one after the other",
		},
	}
}

func limitsTable() string {
	var rows [][]string
	for _, l := range limits() {
		rows = append(rows, []string{l.what, l.value, l.reach, l.then})
	}
	return markdown([]string{"limit", "figure", "reached at events/s", "how it is met, and what then"}, rows)
}
