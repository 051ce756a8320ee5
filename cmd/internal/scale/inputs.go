package main

// An input is a figure that the calculation starts from. To see your own case,
// change values here and run make scale.
type input struct {
	name   string
	value  float64
	unit   string
	source string
}

// inputs lists what is declared below, in that order.
var inputs []input

func in(name string, value float64, unit, source string) float64 {
	inputs = append(inputs, input{name, value, unit, source})
	return value
}

// Where figures come from. None of Google's pages was read live: all are stored
// copies, looked up on 2026-11-25. SCALE.md has their ages.
const (
	assumption = "Assumed; put your own"
	code       = "Counted in the code, and held to it by `code_test.go`"
	reading    = "Read in the code"
	measured   = "Measured on two shared cores of an AMD EPYC under load, so a floor"
	pricing    = "P: *BigQuery pricing*"
	quotas     = "Q: *Quotas and limits*"
	writing    = "W: *Storage Write API best practices*"
	dml        = "D: *Transform data with DML*"
)

// sources is the order in which SCALE.md shows them.
var sources = []string{assumption, code, reading, measured, pricing, quotas, writing, dml}

// The workload: yours will differ.
var (
	peakFactor      = in("peak over average", 3, "×", assumption)
	retentionDays   = in("events are kept", 365, "days", assumption)
	buildsPerDay    = in("models are built", 24, "a day", assumption)
	affectedDays    = in("days that an incremental build reads", 2, "days", assumption)
	eventsPerPerson = in("events of a person, of those kept", 200, "", assumption)
	maxPersons      = in("no more people than", 3e9, "", assumption)
	idsPerPerson    = in("identifiers of a person", 3, "", assumption)
	choicesPerID    = in("consent decisions of an identifier", 1.5, "", assumption)
	purposesAsked   = in("purposes in a decision", 5, "", assumption)
	sealedPerPerson = in("sealed values of a person (fields × purposes, learnt twice)", 12, "", assumption)
	eventsPerVisit  = in("events of a visit", 10, "", assumption)
	ordersPerPerson = in("conversions of a person", 2, "", assumption)
	visitsPerOrder  = in("visits that get credit for a conversion", 3, "", assumption)
	audiences       = in("audiences", 10, "", assumption)
	syncs           = in("syncs", 5, "", assumption)
	syncedShare     = in("share of people in a sync", 0.3, "", assumption)
	sentPerMillion  = in("rows sent per million events", 20_000, "", assumption)
)

// What our own programs do. code_test.go holds the ones marked "the code" and
// the row sizes in rows.go to it.
var (
	microsPerEvent  = in("processor time of the collector's steps", 170, "µs/event", measured)
	stepsShare      = in("share of a core left to the steps (the rest: TLS, spool, loader, slack)", 0.5, "", assumption)
	coresPerMachine = in("cores of a collector machine", 4, "", assumption)
	spoolEventBytes = in("spool, of an event in a request of its own", 1074, "bytes", code)
	spoolMaxBytes   = in("spool.max_bytes", 4<<30, "bytes", reading)
	landingTables   = in("streams of a spool, one for each landing table", 7, "", reading)
	buildJobs       = in("jobs of a build of the models, with one round of the components", 247, "", code)
	roundJobs       = in("jobs of each further round", 10, "", reading)
	rounds          = in("rounds", 4, "", assumption)
	syncJobs        = in("jobs of a run of a sync", 28, "", code)
	windowJobs      = in("jobs of each of its windows, with a sealed field", 9, "", code)
	batchRows       = in("batch_rows, which are the first window", 1000, "rows", code)
	windowRows      = in("rows of a window at most", 100_000, "rows", reading)
	windowSeconds   = in("a window is sent in at most", 10, "s", reading)
	embeddedRate    = in("embedded warehouse, events built by a build of all models", 16_000, "events/s", measured)
	jobSeconds      = in("one BigQuery job, from request to answer", 2, "s", assumption)
	slotBytes       = in("bytes that a slot gets through", 10e6, "bytes/s", assumption)
	loadInterval    = in("landing: load, one job for each table and collector every", 300, "s", assumption)
)

// List prices in US dollars, of the US and EU multi-regions; single regions cost up to
// twice as much.
var (
	eurPerUSD      = in("euro for a dollar", 0.90, "€", assumption)
	usdScanTiB     = in("query, on demand (1 TiB a month free)", 6.25, "$/TiB", pricing)
	usdSlotHour    = in("slot, Enterprise edition, autoscaled", 0.06, "$/hour", pricing)
	usdWriteGiB    = in("Storage Write API (2 TiB a month free)", 0.025, "$/GiB", pricing)
	usdActiveGiB   = in("storage, logical, active", 0.02, "$/GiB/month", pricing)
	usdLongTermGiB = in("storage, logical, untouched for 90 days", 0.01, "$/GiB/month", pricing)
	usdCoreMonth   = in("a core of a collector machine", 25, "$/month", assumption)
)

// Quotas and limits of one project.
var (
	scanTiBPerDay      = in("query usage, on demand", 200, "TiB/day", quotas)
	slotsToReserve     = in("slots to reserve, EU", 5000, "", quotas)
	tableChangesPerDay = in("load jobs, or other jobs that write, for a table", 1500, "/day", quotas)
	writeBytesRegion   = in("Storage Write API, a region", 300e6, "bytes/s", quotas)
	writeBytesMulti    = in("Storage Write API, US or EU", 3e9, "bytes/s", quotas)
	connectionsRegion  = in("write connections, a region", 1000, "", quotas)
	connectionsMulti   = in("write connections, US or EU", 10_000, "", quotas)
	streamBytes        = in("one connection carries at least", 1e6, "bytes/s", writing)
	streamsPerHour     = in("CreateWriteStream", 10_000, "/hour", quotas)
	requestBytes       = in("AppendRows request", 10e6, "bytes", quotas)
	updatesPer10s      = in("changes of a table's metadata in 10 s", 5, "", quotas)
	requestsPerSecond  = in("requests of an account to one method", 100, "/s", quotas)
	queriesWaiting     = in("interactive queries waiting", 1000, "", quotas)
	partitionsPerTable = in("partitions of a table", 10_000, "", quotas)
	partitionsPerJob   = in("partitions written by a job", 4000, "", quotas)
	mutationsAtOnce    = in("UPDATE, DELETE and MERGE on a table at once: running", 2, "", dml)
	mutationsWaiting   = in("… and waiting", 20, "", dml)
)
