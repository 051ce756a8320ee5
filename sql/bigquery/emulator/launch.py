"""Starts the emulator, mended where it falls short of BigQuery's documentation
in ways that our tests would meet at every step. Nothing is mended to please
our code: each change names the rule that BigQuery documents."""

import asyncio
import base64
import copy
import functools
import gc
import os
import sys
import threading
from concurrent import futures

import grpc
import sqlglot
from bqemulator import cli
from bqemulator import server
from bqemulator.api.routes import jobs as routes
from bqemulator.api.routes import tabledata
from bqemulator.catalog import ddl_sync
from bqemulator.grpc_api import write_servicer
from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.jobs import executor
from bqemulator.jobs import routine_ddl
from bqemulator.sql import catalog_schema
from bqemulator.sql import parameters
from bqemulator.sql.rewriter import aggregate_variants
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.versioning.snapshots import SnapshotManager
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.expressions import core

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

# Travel in time costs it a copy of the table for each change. Nothing of ours travels.
SnapshotManager.capture = lambda self, *args, **kwargs: None

# The loop in which the REST server runs its statements, one after the other.
rest = []


def with_loop(start):
    async def started(self):
        rest.append(asyncio.get_running_loop())
        await start(self)

    return started


server.EmulatorServer.start = with_loop(server.EmulatorServer.start)


def in_turn(method):
    """Both servers share a connection to DuckDB, which can do one thing at a
    time: what the gRPC server, which has threads, writes is written between two
    statements of the REST server. (What it reads cannot: it waits for that
    server by itself.)"""

    @functools.wraps(method)
    def handle(self, *args):
        async def turn():
            async with self._ctx.engine.write_lock():
                return method(self, *args)

        return asyncio.run_coroutine_threadsafe(turn(), rest[0]).result()

    return handle


# An open connection takes a thread, of which there are as many as processors and four.
grpc.aio.server = functools.partial(grpc.aio.server, futures.ThreadPoolExecutor(100))
BigQueryWriteHandler._flush_to_target = in_turn(BigQueryWriteHandler._flush_to_target)


def all_or_nothing(append):
    """An append that fails leaves the stream as it was: its offset is free still."""

    def perform(self, stream, *args):
        with stream.lock:
            before = stream.next_offset, stream.row_count
            try:
                return append(self, stream, *args)
            except Exception as failed:
                stream.next_offset, stream.row_count = before
                return write_servicer._error_response(stream.name, str(failed), grpc.StatusCode.INTERNAL)

    return perform


BigQueryWriteHandler._perform_append = all_or_nothing(BigQueryWriteHandler._perform_append)


def for_the_connection(bind):
    """The first request of a connection names the stream; later ones need not."""

    def ensure(self, name, bound, context):
        return bound if bound is not None and not name else bind(self, name, bound, context)

    return ensure


BigQueryWriteHandler._ensure_stream_bound = for_the_connection(BigQueryWriteHandler._ensure_stream_bound)

# A RECORD has fields.
write_servicer._table_arrow_schema = lambda table: tabledata._build_arrow_schema(
    tabledata._fields_raw_from_schema(table.schema_.fields)
)

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
        return "SELECT" if isinstance(tree, exp.Query) else classify(tree)

    return kind


executor._classify_parsed_tree = with_every_query(executor._classify_parsed_tree)


def value_of(operand):
    """ARRAY_AGG takes [DISTINCT] value [IGNORE NULLS] [ORDER BY …] [LIMIT n], all of it together."""
    while isinstance(operand, (exp.Limit, exp.Order)):
        operand = operand.this
    return operand.expressions[0] if isinstance(operand, exp.Distinct) else operand


def limit_arrays(tree):
    """LIMIT counts what IGNORE NULLS has left."""
    limited = [node for node in tree.find_all(exp.ArrayAgg) if isinstance(node.this, exp.Limit)]
    for node in limited:
        limit = node.this.expression.copy()
        node.set("this", node.this.this)
        whole = node.parent if isinstance(node.parent, exp.Filter) else node
        whole.replace(exp.Anonymous(this="ARRAY_SLICE", expressions=[whole.copy(), exp.Literal.number(1), limit]))
    return bool(limited)


aggregate_variants._filter_target = value_of
aggregate_variants._rewrite_array_agg_limit = limit_arrays


def with_places(write_type):
    """A NUMERIC has 38 digits, 9 of them after the point."""

    def write(generator, expression):
        text = write_type(generator, expression)
        return "DECIMAL(38, 9)" if text in ("DECIMAL", "NUMERIC") else text

    return write


# Of a compiled class no method can be replaced, but this table of functions is asked first.
DuckDB.Generator.TRANSFORMS[exp.DataType] = with_places(DuckDB.Generator.TRANSFORMS[exp.DataType])


def unless_qualified(apply_default):
    """A name with its dataset needs no default one. The emulator's rewriting of
    INFORMATION_SCHEMA, which comes after, does not understand its own output."""

    def apply(sql, *args, **kwargs):
        return sql if "INFORMATION_SCHEMA" in sql.upper() else apply_default(sql, *args, **kwargs)

    return apply


routes._apply_default_dataset = unless_qualified(routes._apply_default_dataset)


def copied(value):
    """Beside its nodes a tree has comments and places in the text, in a list and a
    dictionary of what does not change. What copy.deepcopy does about each of them took
    as long as reading."""
    return value.copy() if type(value) in (dict, list) else copy.deepcopy(value)


core.deepcopy = copied

# A tree is many objects, and all are found again each time that Python looks for garbage.
gc.set_threshold(100_000, 20, 100)

# Compiled, a generator reads the templates of its class anew each time that one is made,
# which is ten times for each statement. They are the same, and not changed.
making = threading.local()


def once(make):
    def generator(self, **options):
        making.generator = True
        try:
            return make(self, **options)
        finally:
            making.generator = False

    return generator


Dialect.generator = once(Dialect.generator)


# Modules that only look at a tree.
readers = {module.__name__ for module in (catalog_schema, ddl_sync, executor, routine_ddl)}


def remembered(parse):
    """A statement is read some ten times on its way to DuckDB, and again if it was tried by a dry run before, which took
    two thirds of all time. A copy of what was read is had in a quarter of that, and who only looks needs none."""

    @functools.lru_cache(maxsize=100)
    def read_once(sql, **options):
        return parse(sql, **options)

    def find(sql, read=None, dialect=None, **options):
        if isinstance(options.get("into"), (list, set)):  # cannot be looked up
            return parse(sql, read=read or dialect, **options)
        found = read_once(sql, read=read or dialect, **options)
        if getattr(making, "generator", False) or sys._getframe(1).f_globals["__name__"] in readers:
            return found
        return [tree and tree.copy() for tree in found] if isinstance(found, list) else found.copy()

    return find


sqlglot.parse_one = remembered(sqlglot.parse_one)
sqlglot.parse = remembered(sqlglot.parse)


def end_with_parent():
    """Who started us holds the other end of stdin, and lets go when it dies."""
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()
os.setpgrp()  # Ctrl-C is for who uses it, and may have something to finish

sys.argv = ["bqemulator", "start", "--rest-port", "0", "--grpc-port", "0", "--ephemeral", "--log-level", "info", "--log-format", "json"]
sys.exit(cli.main())
