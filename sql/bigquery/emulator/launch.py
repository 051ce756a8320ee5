# Starts the emulator with what keeps it from serving our tests taken away.
import os
import sys
import threading

from bqemulator.storage.engine import DuckDBEngine

# A statement runs inside the request that starts it and stops everything else,
# so that nobody can cancel it. One that takes longer than this is interrupted.
STATEMENT_SECONDS = 5

# Geography and Avro need extensions from the network. Nothing of ours does.
DuckDBEngine._load_spatial = lambda self: None
DuckDBEngine._load_format_extensions = lambda self: None


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


def end_with_parent():
    """Who started us holds the other end of stdin, and lets go when it dies."""
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()

from bqemulator.cli import main  # noqa: E402

sys.argv = ["bqemulator", "start", "--rest-port", "0", "--grpc-port", "0", "--ephemeral", "--log-level", "info", "--log-format", "json"]
sys.exit(main())
