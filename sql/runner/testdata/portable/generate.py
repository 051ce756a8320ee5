"""Compiles the calls of calls.txt with real dbt, for DuckDB and BigQuery, and writes what comes out to expected.json.

    pip install dbt-core==1.12.6 dbt-duckdb==1.11.1 dbt-bigquery==1.12.1
    python generate.py            # writes expected.json
    python generate.py --check    # fails if it would write something else

Nothing is asked of a warehouse, but for date_spine on an empty file of DuckDB; BigQuery's is left out. White space counts as one
space.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

here = Path(__file__).parent
DIALECTS = ["duckdb", "bigquery"]
PROFILE = """port:
  target: duckdb
  outputs:
    duckdb: {type: duckdb, path: port.duckdb, schema: main}
    bigquery: {type: bigquery, method: oauth-secrets, project: p, dataset: main, token: x, threads: 1}
"""


def compiled(calls):
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "dbt_project.yml").write_text('name: port\nversion: "1.0"\nconfig-version: 2\nprofile: port\n')
        (project / "profiles.yml").write_text(PROFILE)
        (project / "models").mkdir()
        for i, call in enumerate(calls):
            (project / "models" / f"c{i}.sql").write_text("{{ " + call + " }}")
        texts = {call: {} for call in calls}
        for dialect in DIALECTS:
            command = [Path(sys.executable).parent / "dbt", "compile", "--target", dialect, "--target-path", dialect, "--no-populate-cache", "--no-version-check"]
            if dialect == "bigquery":
                command += ["--exclude", *(f"c{i}" for i, call in enumerate(calls) if "date_spine" in call)]
            env = {**os.environ, "DBT_PROFILES_DIR": folder, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
            subprocess.run(command, cwd=folder, env=env, capture_output=True, check=True)
            for i, call in enumerate(calls):
                file = project / dialect / "compiled" / "port" / "models" / f"c{i}.sql"
                if file.exists():
                    texts[call][dialect] = " ".join(file.read_text().split())
        return texts


if __name__ == "__main__":
    calls = (here / "calls.txt").read_text().split("\n")
    text = json.dumps(compiled([c for c in calls if c]), indent=1, ensure_ascii=False) + "\n"
    target = here / "expected.json"
    if "--check" in sys.argv and target.read_text() != text:
        sys.exit("expected.json is not what dbt compiles: run generate.py")
    target.write_text(text)
