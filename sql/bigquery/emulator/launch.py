"""Starts the emulator, mended where it falls short of BigQuery's documentation
in ways that our tests would meet at every step. Nothing is mended to please
our code: each change names the rule that BigQuery documents."""

import base64
import os
import sys
import threading

from bqemulator import cli
from bqemulator.api.routes import jobs as routes
from bqemulator.catalog import ddl_sync
from bqemulator.jobs import executor
from bqemulator.sql import parameters
from bqemulator.storage.engine import DuckDBEngine

# A statement runs inside the request that starts it and stops everything else,
# so that jobs.cancel cannot reach it. One that takes longer is interrupted.
STATEMENT_SECONDS = 5


def limited(method):
    def run(self, *args, **kwargs):
        watchdog = threading.Timer(STATEMENT_SECONDS, self.connection.interrupt)
        watchdog.start()
        try:
            return method(self, *args, **kwargs)
        finally:
            watchdog.cancel()

    return run


DuckDBEngine.execute = limited(DuckDBEngine.execute)
DuckDBEngine.fetch_arrow = limited(DuckDBEngine.fetch_arrow)

# Geography and Avro need extensions from the network. Nothing of ours does.
DuckDBEngine._load_spatial = lambda self: None
DuckDBEngine._load_format_extensions = lambda self: None

# A parameter of type BYTES is base64 on the wire.
parameters._SCALAR_CONVERTERS["BYTES"] = base64.b64decode


def with_json(introspect):
    """A column of type JSON is of type JSON, also when a statement made it."""

    def schema(project, dataset, table, ctx):
        found = introspect(project, dataset, table, ctx)
        ref = executor.quoted_table_ref(project, dataset, table)
        kinds = {row[1]: row[2] for row in ctx.engine.execute(f"PRAGMA table_info({ref})").fetchall()}
        fields = tuple(
            field.model_copy(update={"type": "JSON"}) if kinds.get(field.name) == "JSON" else field
            for field in found.fields
        )
        return found.model_copy(update={"fields": fields})

    return schema


ddl_sync._introspect_schema = with_json(ddl_sync._introspect_schema)


def load_json(path, target, ctx):
    """In newline-delimited JSON, BYTES are base64, keys go by name, and an array
    that is not there is empty."""
    columns, values = [], []
    for name, kind, *_ in ctx.engine.execute(f"DESCRIBE {target}").fetchall():
        columns.append(f"'{name}': '{'VARCHAR' if kind == 'BLOB' else kind}'")
        if kind == "BLOB":
            values.append(f'from_base64("{name}")')
        elif kind.endswith("[]"):
            values.append(f'coalesce("{name}", [])')
        else:
            values.append(f'"{name}"')
    ctx.engine.execute(
        f"INSERT INTO {target} SELECT {', '.join(values)} FROM"
        f" read_json(?, format = 'newline_delimited', columns = {{{', '.join(columns)}}}, maximum_object_size = 100000000)",
        [path],
    )


executor._LOAD_FORMAT_HANDLERS.update({"JSON": load_json, "NEWLINE_DELIMITED_JSON": load_json})


def with_every_query(classify):
    """A query in brackets, or one of several with UNION, is a SELECT too."""

    def kind(tree):
        from sqlglot import exp

        return "SELECT" if isinstance(tree, exp.Query) else classify(tree)

    return kind


executor._classify_parsed_tree = with_every_query(executor._classify_parsed_tree)


def unless_qualified(apply_default):
    """A name with its dataset needs no default one. The emulator's rewriting of
    INFORMATION_SCHEMA, which comes after, does not understand its own output."""

    def apply(sql, *args, **kwargs):
        return sql if "INFORMATION_SCHEMA" in sql.upper() else apply_default(sql, *args, **kwargs)

    return apply


routes._apply_default_dataset = unless_qualified(routes._apply_default_dataset)


def end_with_parent():
    """Who started us holds the other end of stdin, and lets go when it dies."""
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()

sys.argv = ["bqemulator", "start", "--rest-port", "0", "--grpc-port", "0", "--ephemeral", "--log-level", "info", "--log-format", "json"]
sys.exit(cli.main())
