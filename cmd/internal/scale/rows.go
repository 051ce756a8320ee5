package main

import "slices"

// columnBytes is the average size of a column, by the sizes that BigQuery's
// page "Data types" gives: 8 for INT64 and TIMESTAMP, 1 for BOOL, 2 and its
// length for STRING and BYTES, its text for JSON, the sum of its elements for an
// array, 0 for NULL. Those of the landing tables are what the collector lands of
// testdata/visit.jsonl. The models' columns follow from them.
var columnBytes = map[string]float64{
	// events
	"event_id": 61, "source_id": 5, "type": 6.7, "event": 9.8, "occurred_at": 8, "received_at": 8,
	"anonymous_id": 38, "user_id": 11.4, "group_id": 0, "identifiers": 75.1, "purposes": 60, "denied": 13,
	"decision_id": 34, "policy_version": 3, "region": 0, "page_url": 37.1, "page_path": 13.1, "page_title": 27.5,
	"referrer_host": 17.6, "utm_source": 1.2, "utm_medium": 0.7, "utm_campaign": 1.3, "utm_term": 0, "utm_content": 0,
	"click_id_kind": 0, "device_class": 9, "is_bot": 1, "bot_reason": 0, "properties": 48.2, "traits": 5.1,
	"context": 110, "plan_version": 3, "violations": 0, "spool_id": 18, "spool_offset": 8,
	// vault
	"pseudonym": 38, "field": 8.7, "purpose": 14, "key_id": 18, "ciphertext": 39, "token": 34,
	// consents
	"granted": 1, "signal": 9, "signal_digest": 34, "decided_at": 8,
	// models
	"identifier_set": 125, "landed_on": 8, "is_alias": 1, "first_occurred_at": 8, "last_occurred_at": 8, "last_received_at": 8, "fingerprint": 8,
	"day": 8, "is_later": 1, "definition": 34, "did": 5, "last_page_at": 8, "last_page_event_id": 61, "first_utm_at": 4, "first_utm_event_id": 30, "came": 6,
	"made_as_of": 8, "changes_after": 8, "last_started_at": 8,
	"node_key": 38, "node_a": 38, "node_b": 38, "cluster_id": 38, "founder_node": 38, "deciding_node": 38,
	"id_type": 14, "kind_a": 14, "kind_b": 9, "is_declared": 1, "tier": 8, "profile_id": 29, "allowed": 1, "first_seen_at": 8, "last_seen_at": 8, "n_events": 8,
	"n_nodes": 8, "is_too_large": 1, "n_devices": 8, "is_known": 1, "last_page_path": 11, "first_utm_source": 12, "pages": 8, "chats": 8,
	"consent_necessary": 1, "consent_identity": 1, "consent_analytics": 1, "consent_personalization": 1,
	"consent_marketing": 1, "consent_advertising": 1, "consent_sale": 1,
	"session_id": 29, "started_at": 8, "ended_at": 8, "start_date": 8, "page_views": 8, "entry_page": 13.1, "exit_page": 11, "channel": 16,
	"conversion_id": 61, "kind": 17, "converted_at": 8, "conversion_date": 8, "order_id": 14, "value": 15, "gross_value": 15, "is_refunded": 1, "currency": 5,
	"journey_id": 29, "place": 8, "visits": 8, "model": 10, "campaign": 15, "credit": 13,
	"page_views_30d": 8, "sources": 12, "favourite_page": 0, "first_source": 12, "last_source": 12, "last_page": 11, "plan": 20, "orders": 8, "revenue": 15,
	"revenue_90d": 15, "average_order": 15, "smallest_order": 15, "largest_order": 15, "last_order_at": 8,
	// the syncer
	"sync": 20, "key": 38, "row_hash": 34, "mapping_version": 18, "present": 1, "unsure": 1, "resend": 1, "status": 11, "op": 8,
	"change_id": 34, "intent": 31, "acked_at": 8, "attempts": 8,
	"run_id": 29, "plan_id": 29, "seq": 8, "fence": 8, "reason": 5, "outcome": 11, "recorded_at": 8,
}

func bytesOf(columns []string) (total float64) {
	for _, c := range columns {
		total += columnBytes[c]
	}
	return total
}

// relation is a table: how many rows it has and of which columns.
type relation struct {
	name      string
	perEvent  float64 // rows for each event that is kept
	perPerson float64 // rows for each person
	columns   []string
}

func (r relation) bytes(w workload, columns []string) float64 {
	return (r.perEvent*w.events + r.perPerson*w.persons) * bytesOf(columns)
}

var (
	event = []string{
		"event_id", "source_id", "type", "event", "occurred_at", "received_at", "anonymous_id", "user_id", "group_id", "identifiers",
		"purposes", "denied", "decision_id", "policy_version", "region", "page_url", "page_path", "page_title", "referrer_host",
		"utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id_kind", "device_class", "is_bot", "bot_reason",
		"properties", "traits", "context", "plan_version", "violations", "spool_id", "spool_offset",
	}
	verdict = []string{"node_key", "purpose", "granted", "decided_at", "decision_id", "policy_version", "signal"}
	link    = []string{"node_a", "node_b", "kind_a", "kind_b", "is_declared", "first_seen_at", "last_seen_at", "n_events", "fingerprint"}
)

// relations are the landing tables and what the models make of them. Left out is
// what stays small: ledger, counts, seal_keys, erasures, quarantine and seeds.
var relations = []relation{
	{"events", 1, 0, event},
	{"vault", 0, sealedPerPerson, []string{
		"pseudonym", "field", "purpose", "key_id", "ciphertext", "token", "decision_id", "received_at", "spool_id", "spool_offset",
	}},
	{"consents", 0, choicesPerID * idsPerPerson * purposesAsked, []string{
		"decision_id", "pseudonym", "purpose", "granted", "signal", "signal_digest", "policy_version", "region", "source_id",
		"decided_at", "received_at", "spool_id", "spool_offset",
	}},
	{"stg_events", 1, 0, append(without(event, "bot_reason", "context", "violations"), "identifier_set")},
	// A visit is two rows, since people sign in, and so is a set of identifiers of a device.
	{"stg_identifier_days", 2 / eventsPerVisit, 0, []string{
		"landed_on", "identifier_set", "is_bot", "is_alias", "purposes", "denied", "decision_id", "policy_version",
		"n_events", "first_occurred_at", "last_occurred_at", "last_received_at", "fingerprint",
	}},
	{"stg_identifiers", 0, 2 * idsPerPerson, []string{"identifier_set", "node_key", "id_type"}},
	{"identifier_owners", 0, 2 * idsPerPerson, []string{"identifier_set", "profile_id"}},
	{"int_behaviour_days", 2 / eventsPerVisit, 0, []string{
		"landed_on", "identifier_set", "day", "is_later", "definition", "did", "n_events", "pages", "chats",
		"last_page_path", "last_page_at", "last_page_event_id", "first_utm_source", "first_utm_at", "first_utm_event_id", "fingerprint",
	}},
	{"identity_nodes", 0, idsPerPerson, []string{"node_key", "id_type", "first_seen_at", "last_seen_at", "n_events", "fingerprint"}},
	{"identity_links", 0, idsPerPerson, link},
	{"identity_edges", 0, idsPerPerson, append(slices.Clone(link), "tier")},
	{"int_identity_clusters", 0, idsPerPerson, []string{"node_key", "cluster_id", "fingerprint"}},
	{"int_identity_sizes", 0, 1, []string{"cluster_id", "n_nodes", "is_too_large", "fingerprint"}},
	{"identity_map", 0, idsPerPerson, []string{"node_key", "profile_id", "founder_node", "cluster_id", "fingerprint"}},
	{"consent_node_state", 0, idsPerPerson * purposesAsked, append(slices.Clone(verdict), "fingerprint")},
	{"consent_profile", 0, purposesAsked, []string{"profile_id", "purpose", "allowed", "decision_id", "policy_version", "deciding_node", "decided_at"}},
	{"profile_sealed", 0, sealedPerPerson / 2, []string{
		"profile_id", "field", "purpose", "pseudonym", "key_id", "ciphertext", "token", "decision_id", "received_at",
	}},
	{"profiles", 0, 1, []string{
		"profile_id", "first_seen_at", "last_seen_at", "n_events", "n_nodes", "n_devices", "is_known", "last_page_path", "first_utm_source", "pages", "chats",
		"consent_necessary", "consent_identity", "consent_analytics", "consent_personalization", "consent_marketing", "consent_advertising", "consent_sale",
	}},
	{"int_funnel_days", 1 / eventsPerVisit, 0, []string{"profile_id", "day", "came", "n_events", "fingerprint", "definition"}},
	{"int_profile_traits", 0, 1, []string{
		"profile_id", "n_events", "fingerprint", "definition", "made_as_of", "changes_after", "page_views", "page_views_30d", "pages", "sources", "favourite_page", "first_source", "last_source", "last_page", "plan", "orders",
		"revenue", "revenue_90d", "average_order", "smallest_order", "largest_order", "last_order_at",
	}},
	{"int_sessions", 1 / eventsPerVisit, 0, []string{
		"session_id", "node_key", "started_at", "ended_at", "n_events", "page_views", "entry_page", "exit_page",
		"utm_source", "utm_medium", "utm_campaign", "click_id_kind", "referrer_host", "fingerprint",
	}},
	{"conversions", 0, ordersPerPerson, []string{"conversion_id", "profile_id", "kind", "converted_at", "conversion_date", "order_id", "gross_value", "value", "currency", "is_refunded"}},
	// A visit is in the journey of one conversion at most of those who do not order often, or in one without.
	{"int_attribution_journeys", 1 / eventsPerVisit, 0, []string{
		"journey_id", "kind", "profile_id", "conversion_id", "converted_at", "place", "visits", "session_id", "started_at", "last_started_at", "channel", "campaign",
		"fingerprint", "definition",
	}},
	{"attribution_credits", 0, ordersPerPerson * (3 + 4*visitsPerOrder), []string{"conversion_id", "model", "session_id", "channel", "campaign", "credit", "value", "fingerprint"}},
	{"state", 0, syncs * syncedShare, []string{
		"sync", "key", "profile_id", "row_hash", "mapping_version", "present", "unsure", "resend", "status", "op", "change_id", "intent",
		"decision_id", "policy_version", "acked_at", "attempts",
	}},
	{"deliveries", sentPerMillion / 1e6, 0, []string{
		"sync", "run_id", "plan_id", "seq", "intent", "fence", "change_id", "key", "profile_id", "op", "reason", "outcome",
		"row_hash", "mapping_version", "decision_id", "policy_version", "present", "unsure", "recorded_at",
	}},
}

func without(columns []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return slices.Contains(some, c) })
}

// read is what a model reads of a relation. No columns means all.
type read struct {
	relation string
	columns  []string
}

func (r read) bytes(w workload) float64 {
	relation := relationNamed(r.relation)
	if r.columns == nil {
		return relation.bytes(w, relation.columns)
	}
	return relation.bytes(w, r.columns)
}

// findingDays is what stg_events by day reads whole, before anything else, to
// find the days that are affected: which events landed where, and in the second
// line the like of what it kept of them, with their pseudonyms.
var findingDays = []read{
	{"events", []string{"event_id", "received_at", "spool_id", "spool_offset"}},
	{"events", []string{"identifiers", "received_at", "spool_id", "spool_offset"}},
}

// findingAddedUp is what stg_identifier_days reads whole for that.
var findingAddedUp = []read{
	{"stg_events", []string{"event_id", "received_at", "spool_id", "spool_offset"}},
	{"stg_identifier_days", []string{"landed_on", "n_events", "fingerprint"}},
}

// findingBehaviour is what int_behaviour_days reads whole for that.
var findingBehaviour = []read{
	{"stg_identifier_days", []string{"landed_on", "identifier_set", "is_bot", "purposes", "n_events", "last_occurred_at", "fingerprint"}},
	{"int_behaviour_days", []string{"landed_on", "is_later", "definition", "n_events", "fingerprint"}},
}

// model is a node of the dbt project and what one build of it reads. Where it
// reads the view profile_events, it is what the view reads that counts.
// A column counts once for each query, as BigQuery bills it.
type model struct {
	name     string
	view     bool
	audience bool
	times    float64 // how many there are of it
	reads    []read
}

var models = []model{
	{"stg_events", false, false, 1, []read{{"events", without(event, "bot_reason", "context", "violations")}}},
	{"stg_identifier_days", false, false, 1, []read{{"stg_events", []string{
		"event_id", "identifier_set", "type", "occurred_at", "received_at", "decision_id", "policy_version", "purposes", "denied", "is_bot", "spool_id", "spool_offset",
	}}}},
	{"stg_identifiers", false, false, 1, []read{{"stg_identifier_days", []string{"identifier_set"}}}},
	{"identifier_owners", false, false, 1, []read{{"stg_identifiers", []string{"identifier_set", "node_key"}}, {"identity_map", []string{"node_key", "profile_id"}}}},
	{"stg_consent", true, false, 1, []read{{"stg_identifier_days", nil}, {"stg_identifiers", nil}, {"consents", nil}}},
	{"consent_node_state", false, false, 1, []read{
		{"stg_identifier_days", []string{
			"identifier_set", "purposes", "denied", "decision_id", "policy_version", "last_occurred_at", "last_received_at", "n_events", "fingerprint",
		}},
		{"stg_identifiers", []string{"identifier_set", "node_key"}},
		{"consents", append(verdictOf("pseudonym"), "spool_id", "spool_offset")},
	}},
	{"identity_nodes", false, false, 1, []read{
		{"stg_identifier_days", []string{"identifier_set", "is_bot", "n_events", "first_occurred_at", "last_occurred_at", "fingerprint"}}, {"stg_identifiers", nil},
	}},
	{"identity_links", false, false, 1, []read{
		{"stg_identifier_days", []string{"identifier_set", "is_bot", "is_alias", "purposes", "n_events", "first_occurred_at", "last_occurred_at", "fingerprint"}},
		{"stg_identifiers", nil},
	}},
	{"identity_edges", false, false, 1, []read{{"identity_links", nil}, {"consent_node_state", []string{"node_key", "purpose", "granted"}}}},
	{"identity_shared_nodes", false, false, 1, []read{
		{"identity_edges", []string{"node_a", "node_b", "kind_a", "kind_b", "last_seen_at"}}, {"identity_nodes", []string{"node_key", "id_type"}},
	}},
	{"int_identity_weak_edges", false, false, 1, []read{{"identity_edges", []string{"node_a", "node_b", "kind_a", "kind_b", "is_declared", "last_seen_at"}}}},
	// And as much again for its own tables, which shrink from round to round.
	{"int_identity_clusters", false, false, 2, []read{{"identity_edges", []string{"node_a", "node_b"}}, {"identity_nodes", []string{"node_key", "id_type", "first_seen_at"}}}},
	{"int_identity_sizes", false, false, 1, []read{{"int_identity_clusters", nil}, {"identity_nodes", []string{"node_key", "id_type"}}}},
	{"int_identity_parts", false, false, 1, []read{
		{"int_identity_clusters", []string{"node_key", "cluster_id"}},
		{"int_identity_sizes", []string{"cluster_id", "is_too_large"}},
		{"identity_edges", []string{"node_a", "node_b", "kind_a", "kind_b", "is_declared", "last_seen_at", "tier"}},
	}},
	{"identity_rejected_edges", false, false, 1, []read{{"identity_edges", nil}, {"identity_nodes", []string{"node_key", "id_type"}}}},
	{"identity_map", false, false, 1, []read{{"int_identity_clusters", nil}, {"identity_nodes", []string{"node_key", "first_seen_at"}}}},
	{"identity_aliases", true, false, 1, []read{{"identity_map", nil}}},
	{"identity_changes", false, false, 1, []read{{"identity_map", nil}}},
	{"consent_node_effective", true, false, 1, []read{{"consent_node_state", nil}, {"identity_links", nil}}},
	{"consent_profile", false, false, 1, []read{
		{"consent_node_state", without(verdict, "signal")},
		{"identity_links", []string{"node_a", "node_b"}},
		{"identity_map", []string{"node_key", "profile_id"}},
	}},
	{"counts_published", false, false, 1, nil}, // of counts and ledger, which stay small
	{"profile_events", true, false, 1, []read{{"stg_events", nil}, {"identifier_owners", nil}}},
	{"profile_sealed", false, false, 1, []read{{"vault", nil}, {"identity_map", []string{"node_key", "profile_id"}}}},
	{"int_behaviour_days", false, false, 1, []read{{"stg_events", []string{
		"event_id", "identifier_set", "is_bot", "purposes", "type", "event", "occurred_at", "received_at", "page_path", "utm_source", "spool_id", "spool_offset",
	}}, {"stg_identifier_days", []string{"landed_on", "identifier_set", "is_bot", "purposes", "n_events", "fingerprint"}}}},
	{"profiles", false, false, 1, []read{
		{"int_behaviour_days", without(relationNamed("int_behaviour_days").columns, "landed_on", "day", "is_later", "definition", "did", "fingerprint")},
		{"identifier_owners", nil},
		{"identity_map", []string{"node_key", "profile_id"}},
		{"identity_nodes", []string{"node_key", "id_type", "first_seen_at", "last_seen_at"}},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"profile_traits", true, false, 1, []read{{"int_profile_traits", nil}}},
	{"int_profile_traits", false, false, 1, []read{
		{"int_behaviour_days", []string{"identifier_set", "is_later", "n_events", "fingerprint"}},
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "type", "event", "occurred_at", "page_path", "utm_source", "properties", "traits"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"profile_traits_history", true, false, 1, []read{{"stg_events", nil}, {"identifier_owners", nil}, {"consent_profile", nil}}},
	{"int_sessions", false, false, 1, []read{
		{"stg_events", []string{
			"event_id", "identifier_set", "is_bot", "purposes", "type", "occurred_at", "page_path", "page_url", "referrer_host", "utm_source", "utm_medium", "utm_campaign", "click_id_kind",
		}},
		{"stg_identifier_days", []string{"identifier_set", "is_bot", "purposes", "n_events", "fingerprint"}},
		{"stg_identifiers", nil},
		{"identity_map", []string{"node_key", "profile_id"}},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"sessions", true, false, 1, []read{{"int_sessions", nil}}},
	{"conversions", false, false, 1, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "event", "occurred_at", "properties"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"attribution_journeys", true, false, 1, []read{{"int_attribution_journeys", nil}}},
	{"int_attribution_journeys", false, false, 1, []read{
		{"int_sessions", []string{"session_id", "node_key", "started_at", "utm_campaign", "utm_source", "utm_medium", "click_id_kind", "referrer_host"}},
		{"conversions", []string{"conversion_id", "profile_id", "kind", "converted_at"}},
		{"identity_map", []string{"node_key", "profile_id"}},
	}},
	{"attribution_credits", false, false, 1, []read{
		{"int_attribution_journeys", []string{"conversion_id", "session_id", "channel", "campaign", "converted_at", "started_at", "place", "visits"}},
		{"conversions", []string{"conversion_id", "value"}},
	}},
	{"attribution_markov", false, false, 1, []read{{"int_attribution_journeys", []string{"kind", "journey_id", "place", "visits", "conversion_id", "last_started_at", "channel"}}}},
	{"attribution_shapley", false, false, 1, []read{{"int_attribution_journeys", []string{"kind", "journey_id", "place", "visits", "conversion_id", "last_started_at", "channel"}}}},
	{"stg_spend", true, false, 1, nil},
	{"channel_spend_daily", false, false, 1, []read{{"int_sessions", []string{"started_at", "utm_source", "utm_medium", "click_id_kind", "referrer_host"}}}},
	{"attribution_campaigns", true, false, 1, []read{{"attribution_credits", nil}, {"conversions", nil}}},
	{"time_to_convert", true, false, 1, []read{{"int_attribution_journeys", nil}}},
	{"attribution_restatements", false, false, 1, []read{
		{"attribution_credits", []string{"conversion_id", "model", "channel", "credit", "value"}},
		{"conversions", []string{"conversion_id", "conversion_date", "kind", "currency"}},
	}},
	{"attribution_report", true, false, 1, []read{{"attribution_credits", nil}, {"conversions", nil}}},
	{"data_quality", false, false, 1, []read{
		{"events", []string{"event_id", "received_at", "violations", "spool_id", "spool_offset"}},
		{"stg_events", []string{"event_id", "source_id", "type", "event", "occurred_at", "received_at", "purposes", "identifier_set", "is_bot", "page_path", "page_title"}},
		{"identifier_owners", nil},
		{"profiles", []string{"profile_id", "n_nodes"}},
	}},
	{"source_scorecard", true, false, 1, []read{{"stg_events", []string{"source_id", "received_at"}}}},
	{"account_members", false, false, 1, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "group_id", "event", "occurred_at", "properties"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"accounts", true, false, 1, nil},
	{"account_traits", false, false, 1, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "group_id", "event", "occurred_at", "properties", "traits"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"plan_violations", true, false, 1, nil},
	{"data_health", true, false, 1, []read{{"identity_edges", nil}, {"profiles", nil}, {"stg_events", nil}}},
	{"metrics_daily", false, false, 1, []read{
		{"int_sessions", []string{"started_at", "node_key", "page_views"}},
		{"conversions", []string{"conversion_date", "kind", "value"}},
	}},
	{"int_funnel_days", false, false, 1, []read{
		{"int_behaviour_days", []string{"identifier_set", "is_later", "n_events", "fingerprint"}},
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "type", "event", "occurred_at"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"funnel_daily", false, false, 1, []read{{"int_funnel_days", []string{"day", "came"}}}},
	{"retention_weekly", false, false, 1, []read{
		{"int_behaviour_days", []string{"identifier_set", "day", "is_later", "did"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"product_usage", false, false, 1, []read{
		{"int_behaviour_days", []string{"identifier_set", "day", "is_later", "did"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"north_star", true, false, 1, nil},
	{"audience_members", true, false, 1, nil}, // of the audiences, which are small beside events
	{"audience_events", false, false, 1, []read{
		{"profiles", []string{"profile_id"}},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
		{"identity_map", []string{"node_key", "profile_id", "founder_node"}},
		// Who belongs to which account, once an audience is of accounts.
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "group_id"}},
		{"identifier_owners", nil},
	}},
	{"audience_membership", true, false, 1, nil},
	{"audience_sizes", true, false, 1, []read{{"stg_events", nil}, {"identifier_owners", nil}, {"consent_profile", nil}}},
	{"audience_overlap", true, false, 1, nil},
	{"score_churn", false, false, 1, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "event", "occurred_at", "properties"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"score_rfm", true, false, 1, nil},
	{"score_intent", false, false, 1, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "event", "occurred_at", "page_path"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
	{"pricing_and_chat", false, true, audiences, []read{
		{"stg_events", []string{"event_id", "identifier_set", "is_bot", "purposes", "event", "occurred_at", "page_path"}},
		{"identifier_owners", nil},
		{"consent_profile", []string{"profile_id", "purpose", "allowed"}},
	}},
}

// verdictOf is the evidence of consent under another name of its identifier.
func verdictOf(id string) []string { return append(without(verdict, "node_key"), id) }

// relationNamed returns a relation of the list above.
func relationNamed(name string) relation {
	i := slices.IndexFunc(relations, func(r relation) bool { return r.name == name })
	return relations[i]
}
