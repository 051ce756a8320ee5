package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// conditionError is an error of PostgreSQL without its words, which may hold
// values, or of the connection, without what it was configured with.
type conditionError struct {
	doing string
	code  string // SQLSTATE; empty if the connection broke
	cause error  // for errors.Is and As; never printed
}

func (e *conditionError) Error() string {
	switch {
	case e.code != "":
		return fmt.Sprintf("PostgreSQL cannot %s: %s (SQLSTATE %s)%s", e.doing, strings.ReplaceAll(condition(e.code), "_", " "), e.code, remedy(e.code))
	case errors.Is(e.cause, context.DeadlineExceeded):
		return "PostgreSQL did not " + e.doing + " in time"
	}
	return "the connection to PostgreSQL broke while it was to " + e.doing
}

func (e *conditionError) Unwrap() error { return e.cause }

func sqlError(doing string, err error) error {
	return &conditionError{doing: doing, code: code(err), cause: err}
}

// connectError says why there is no connection.
func connectError(c config, err error) error {
	what := "no answer"
	var notTrusted *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case code(err) != "":
		what = fmt.Sprintf("%s (SQLSTATE %s)%s", strings.ReplaceAll(condition(code(err)), "_", " "), code(err), remedy(code(err)))
	case errors.As(err, &notTrusted):
		what = "its certificate is not trusted for this name; tls_ca takes its authority's"
	case errors.As(err, &name):
		what = "the name does not resolve"
	case errors.Is(err, context.DeadlineExceeded):
		what = "no answer in time"
	case strings.Contains(err.Error(), "refused TLS"):
		what = `the server speaks no TLS; on this machine, or in a network of your own, tls: "off" does without`
	case strings.Contains(err.Error(), "connection refused"), strings.Contains(err.Error(), "no such file"):
		what = "nothing listens there"
	}
	return fmt.Errorf("connect to PostgreSQL at %s: %s", c.address(), what)
}

func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// transient reports whether the transaction may succeed when it is tried again,
// and its code.
func transient(err error) (string, bool) {
	switch c := code(err); {
	case c == "":
		return "", false
	case c == "40001", c == "40P01", c == "55P03", c == "57014", c == "25006",
		strings.HasPrefix(c, "08"), strings.HasPrefix(c, "53"), strings.HasPrefix(c, "57P"):
		return condition(c), true
	}
	return "", false
}

// remedy is what to do about a condition that a person has to mend.
func remedy(code string) string {
	switch code {
	case "28P01", "28000":
		return ": check user and password"
	case "3D000":
		return ": check the database in the url"
	case "42501":
		return ": sluis destinations check says which rights are missing"
	case "42P01", "42703":
		return ": the table was changed while it was in use; run the sync again"
	case "42804", "42846":
		return ": a column's type and its field's do not go together; cast it in the model"
	}
	return ""
}

// condition is PostgreSQL's name of a code, for those that one meets.
func condition(code string) string {
	names := map[string]string{
		"08000": "connection_exception", "08006": "connection_failure", "08P01": "protocol_violation",
		"22000": "data_exception", "22001": "string_data_right_truncation", "22003": "numeric_value_out_of_range",
		"22007": "invalid_datetime_format", "22008": "datetime_field_overflow", "22021": "character_not_in_repertoire",
		"22023": "invalid_parameter_value", "22030": "duplicate_json_object_key_value", "22032": "invalid_json_text",
		"22P02": "invalid_text_representation", "22P05": "untranslatable_character",
		"23001": "restrict_violation", "23502": "not_null_violation", "23503": "foreign_key_violation",
		"23505": "unique_violation", "23514": "check_violation", "23P01": "exclusion_violation",
		"25006": "read_only_sql_transaction",
		"28000": "invalid_authorization_specification", "28P01": "invalid_password", "3D000": "invalid_catalog_name",
		"40001": "serialization_failure", "40P01": "deadlock_detected",
		"42501": "insufficient_privilege", "42703": "undefined_column", "42804": "datatype_mismatch", "42846": "cannot_coerce",
		"42P01": "undefined_table", "44000": "with_check_option_violation",
		"53100": "disk_full", "53200": "out_of_memory", "53300": "too_many_connections",
		"55P03": "lock_not_available", "57014": "query_canceled", "57P01": "admin_shutdown", "57P02": "crash_shutdown",
		"57P03": "cannot_connect_now", "P0001": "raise_exception",
	}
	if name, ok := names[code]; ok {
		return name
	}
	return "sqlstate_" + strings.ToLower(code)
}
