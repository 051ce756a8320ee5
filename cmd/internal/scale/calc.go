package main

import "math"

const (
	day   = 24 * 60 * 60 // seconds
	month = 30           // days
	gib   = 1 << 30
	tib   = 1 << 40
)

// workload is a size to plan for.
type workload struct {
	rate    float64 // events a second, on average
	events  float64 // that are kept
	persons float64 // who they are of
}

func at(rate float64) workload {
	events := rate * day * retentionDays
	return workload{rate, events, math.Min(events/eventsPerPerson, maxPersons)}
}

func (w workload) millionsPerDay() float64 { return w.rate * day / 1e6 }

// landedBytes is what one event adds to the landing tables: its row, and its
// share of what is learnt of a person. It stands also for the bytes of a
// request, where a field's number and length take the place of a string's two bytes.
func (w workload) landedBytes() float64 {
	return (wholeBytes(w, "events") + wholeBytes(w, "vault") + wholeBytes(w, "consents")) / w.events
}

// wholeBytes is the size of a relation.
func wholeBytes(w workload, name string) float64 {
	r := relationNamed(name)
	return r.bytes(w, r.columns)
}

// Collectors.

// eventsPerMachine is what the steps of a collector machine get through.
func eventsPerMachine() float64 {
	return 1e6 / microsPerEvent * stepsShare * coresPerMachine
}

// machines is how many collectors the peak needs.
func machines(w workload) float64 {
	return math.Ceil(w.rate * peakFactor / eventsPerMachine())
}

// spools is how many spools the Storage Write API needs. A spool has one stream for
// each table, and one is written after the other; so one connection's speed is
// that of the spool. It must carry the average: the spool takes the peak.
func spools(w workload) float64 {
	return math.Max(machines(w), math.Ceil(w.rate*w.landedBytes()/streamBytes))
}

// outageHours is how long a spool holds what comes on average while BigQuery is
// away, if there are so many.
func outageHours(w workload, spools float64) float64 {
	return spoolMaxBytes / (w.rate / spools * spoolEventBytes) / 3600
}

// shortestLoadInterval is how often each of so many collectors may load into a
// table, in seconds, since they share the table's quota.
func shortestLoadInterval(collectors float64) float64 {
	return math.Max(loadInterval, collectors*day/tableChangesPerDay)
}

// Models.

// variant is how the models are built. fresh says whether a model's read of the
// relation is of the affected days only.
type variant struct {
	name  string
	fresh func(m model, r relation) bool
}

const (
	staging   = "stg_events"
	addedUp   = "stg_identifier_days"
	behaviour = "int_behaviour_days"
)

var (
	wholeBuild       = variant{"all whole", func(model, relation) bool { return false }}
	stagingByDay     = variant{"staging by day", func(m model, _ relation) bool { return m.name == staging || m.name == addedUp || m.name == behaviour }}
	everyEventsByDay = variant{"all by day (not built)", func(_ model, r relation) bool { return r.perEvent > 0 }}
)

// variants go from what there was to what would have to be.
var variants = []variant{wholeBuild, stagingByDay, everyEventsByDay}

// scanned is how many bytes one build of a model reads.
func (m model) scanned(w workload, v variant) float64 {
	if m.view {
		return 0
	}
	total := 0.0
	for _, read := range m.reads {
		bytes := read.bytes(w)
		if v.fresh(m, relationNamed(read.relation)) {
			bytes *= math.Min(1, affectedDays/retentionDays)
		}
		total += bytes
	}
	if m.name == staging && v.fresh(m, relationNamed("events")) {
		for _, read := range findingDays {
			total += read.bytes(w)
		}
	}
	if m.name == addedUp && v.fresh(m, relationNamed(staging)) {
		for _, read := range findingAddedUp {
			total += read.bytes(w)
		}
	}
	if m.name == behaviour && v.fresh(m, relationNamed(staging)) {
		for _, read := range findingBehaviour {
			total += read.bytes(w)
		}
	}
	return total * m.times
}

// scannedPerBuild is what one build of all models reads.
func scannedPerBuild(w workload, v variant) (total float64) {
	for _, m := range models {
		total += m.scanned(w, v)
	}
	return total
}

// slots is how many slots finish a build in half of the time until the next.
func slots(bytes float64) float64 {
	return bytes / slotBytes / (day / buildsPerDay / 2)
}

// embeddedEvents is how many events the embedded warehouse can keep, if a
// build may take half of the time until the next, and takes as much longer as
// there are more events.
func embeddedEvents() float64 { return embeddedRate * day / buildsPerDay / 2 }

// Syncs.

// sync is a day of all syncs.
type sync struct {
	rows, windows, jobs float64
	perWindow           float64 // bytes scanned by one window
	perDay              float64 // bytes scanned
}

// syncsOf is a day of syncs. A window reads the state, asks consent, opens what is
// sealed, notes in the state who is about to be sent, and folds from the deliveries of
// all time, twice, into the state, which a MERGE is billed for with all columns of its
// table. None of these tables is partitioned. Each run of a sync compares its model with
// the state.
func syncsOf(w workload) sync {
	bytes := func(name string) float64 { return wholeBytes(w, name) }
	runs := buildsPerDay * syncs
	s := sync{rows: w.millionsPerDay() * sentPerMillion}
	s.windows = runs * windowsOf(s.rows/runs)
	s.perWindow = 4*bytes("state") + 2*bytes("deliveries") + bytes("consent_profile") + bytes("profile_sealed")
	s.jobs = runs*syncJobs + s.windows*windowJobs
	s.perDay = s.windows*s.perWindow + runs*(bytes("profiles")+bytes("consent_profile")+bytes("profile_sealed")+bytes("state"))
	return s
}

// windowsOf is how many windows a run of so many rows has, if all goes well: each is of
// twice as many rows as the one before. A run of less than a row is one that is rarely
// needed.
func windowsOf(rows float64) (n float64) {
	for size := batchRows; rows > 0; size = math.Min(2*size, windowRows) {
		n += math.Min(rows, 1)
		rows -= size
	}
	return n
}

// rowsPerDay is how many rows one sync can send at most, one window after the other.
func rowsPerDay() float64 { return day / (windowJobs*jobSeconds + windowSeconds) * windowRows }

// Money, in euro.

func scanPrice(bytes float64) float64 { return bytes / tib * usdScanTiB * eurPerUSD }

func slotPrice(bytes float64) float64 {
	return bytes / slotBytes / 3600 * usdSlotHour * eurPerUSD
}

func writePrice(bytes float64) float64 { return bytes / gib * usdWriteGiB * eurPerUSD }

// storagePrice is of a month, once the oldest events are as old as they get.
// Events that nobody touches any more cost half; what the models rebuild, never.
func storagePrice(w workload) float64 {
	long := math.Max(0, 1-90/retentionDays)
	total := 0.0
	for _, r := range relations {
		usd := usdActiveGiB
		if r.name == "events" {
			usd = usdActiveGiB*(1-long) + usdLongTermGiB*long
		}
		total += r.bytes(w, r.columns) / gib * usd
	}
	return total * eurPerUSD
}

// stored is what all tables hold together.
func stored(w workload) (total float64) {
	for _, r := range relations {
		total += r.bytes(w, r.columns)
	}
	return total
}

// rateWhere is the rate at which use reaches the limit. use must not fall as
// the rate grows.
func rateWhere(limit float64, use func(w workload) float64) float64 {
	low, high := 1e-3, 1e9
	for range 200 {
		if middle := math.Sqrt(low * high); use(at(middle)) < limit {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
