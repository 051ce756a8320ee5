package warehouse

// Type is a column type in the words of GoogleSQL. Drivers translate.
type Type string

// The types that landing tables and the syncer's tables use.
const (
	String    Type = "STRING"
	Int64     Type = "INT64"
	Bool      Type = "BOOL"
	Bytes     Type = "BYTES"
	Timestamp Type = "TIMESTAMP" // an instant, microseconds
	JSON      Type = "JSON"
	Strings   Type = "ARRAY<STRING>"
	// Identifiers is the array of an event's pseudonyms.
	Identifiers Type = "ARRAY<STRUCT<kind STRING, pseudonym STRING>>"
)

// Column is a column of a table or view.
type Column struct {
	Name string
	Type Type
}

// Table is a table that Sluis itself defines.
type Table struct {
	Name    string
	Columns []Column
}

// Landing lists the tables of [SchemaLanding]: append-only, in the order the
// collector writes them, without any direct identifier in clear. Each row
// carries spool_id and spool_offset, the place in the spool that it came from.
//
// On the embedded warehouse each is a view over the Parquet files that landed,
// opened anew with each run.
func Landing() []Table {
	origin := []Column{{"spool_id", String}, {"spool_offset", Int64}}
	table := func(name string, columns ...Column) Table {
		return Table{Name: name, Columns: append(columns, origin...)}
	}
	event := []Column{
		{"event_id", String},
		{"source_id", String},
		{"type", String},
		{"event", String},
		{"occurred_at", Timestamp},
		{"received_at", Timestamp},
		{"anonymous_id", String},
		{"user_id", String},
		{"group_id", String},
		{"identifiers", Identifiers},
		// What the person had agreed to, and explicitly refused, when the event
		// was collected. A purpose in neither is unknown, which means no.
		{"purposes", Strings},
		{"denied", Strings},
		{"decision_id", String},
		{"policy_version", String},
		{"region", String},
		{"page_url", String},
		{"page_path", String},
		{"page_title", String},
		{"referrer_host", String},
		{"utm_source", String},
		{"utm_medium", String},
		{"utm_campaign", String},
		{"utm_term", String},
		{"utm_content", String},
		{"click_id_kind", String},
		{"device_class", String},
		{"is_bot", Bool},
		{"bot_reason", String},
		{"properties", JSON},
		{"traits", JSON},
		{"context", JSON},
		{"plan_version", String},
		{"violations", Strings},
	}
	return []Table{
		table("events", event...),
		// The only place of direct identifiers, each sealed for one purpose. token
		// is a keyed digest of the value, comparable within one pseudonym and field.
		table("vault",
			Column{"pseudonym", String}, Column{"field", String}, Column{"purpose", String},
			Column{"key_id", String}, Column{"ciphertext", Bytes}, Column{"token", String},
			Column{"decision_id", String}, Column{"received_at", Timestamp}),
		// The proof: one row per choice, pseudonym and purpose. From chain on, what
		// shows that none was changed or removed: see package consent/record. Of an
		// erased person's row only that is left, with the request and its signature.
		table("consents",
			Column{"decision_id", String}, Column{"pseudonym", String}, Column{"purpose", String}, Column{"granted", Bool},
			Column{"signal", String}, Column{"signal_digest", String}, Column{"policy_version", String},
			Column{"region", String}, Column{"source_id", String},
			Column{"decided_at", Timestamp}, Column{"received_at", Timestamp},
			Column{"notice", String}, Column{"expires_at", Timestamp},
			Column{"chain", String}, Column{"link", Int64}, Column{"link_row", Int64}, Column{"link_rows", Int64},
			Column{"previous", String}, Column{"salt", String}, Column{"row_digest", String},
			Column{"key_id", String}, Column{"signature", String},
			Column{"erasure_id", String}, Column{"erasure_signature", String}),
		// Events that broke a rule, sealed for the purpose necessary; their names only
		// as the tracking plan has them. A row with an outcome is what became of the
		// event with that id, which waits no longer.
		table("quarantine",
			Column{"quarantine_id", String}, Column{"source_id", String}, Column{"type", String}, Column{"event", String},
			Column{"reason", String}, Column{"path", String}, Column{"outcome", String},
			Column{"key_id", String}, Column{"ciphertext", Bytes}, Column{"received_at", Timestamp}),
		// What became of everything received.
		table("ledger",
			Column{"source_id", String}, Column{"minute", Timestamp}, Column{"outcome", String}, Column{"reason", String}, Column{"n", Int64}),
		// Refused events, as a number: no identifier, no time below the hour, event
		// names and pages only as the tracking plan has them, NULL for any other. Their
		// place, and that of the ledger's rows, is that of the range they landed with.
		table("counts",
			Column{"source_id", String}, Column{"hour", Timestamp}, Column{"type", String}, Column{"event", String}, Column{"n", Int64},
			Column{"page", String}, Column{"device_class", String}),
		// Without its row a data key cannot be recovered, so deleting one destroys
		// what it sealed.
		table("seal_keys",
			Column{"key_id", String}, Column{"purpose", String}, Column{"recipient", String}, Column{"psk_id", String},
			Column{"encapsulated_key", Bytes}, Column{"created_at", Timestamp}),
		// Tombstones. token is that of the suppression list, by which nothing can be
		// joined: the pseudonym itself is in none of our tables any more but here,
		// sealed for the purpose necessary, so that a rotation of pseudonyms can carry
		// the tombstone over. A row of the scope "readmitted" ends one.
		table("erasures",
			Column{"request_id", String}, Column{"token", String}, Column{"erased_at", Timestamp}, Column{"scope", String},
			Column{"key_id", String}, Column{"ciphertext", Bytes}),
		// By its element a pseudonym is carried over to another key. It serves that
		// alone, so nobody who queries events needs to read it.
		table("elements",
			Column{"pseudonym", String}, Column{"element", Bytes}, Column{"key_version", Int64}, Column{"received_at", Timestamp}),
		// What profiles were called before a rotation of pseudonyms, by their founders:
		// destinations know people by it.
		table("profile_names",
			Column{"pseudonym", String}, Column{"profile_id", String}, Column{"received_at", Timestamp}),
	}
}
