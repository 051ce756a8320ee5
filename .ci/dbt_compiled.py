"""Compile the project with dbt for DuckDB, and compare each model's SQL with what the runner makes of it.

usage: dbt_compiled.py DBT

The runner's are the files that TestCompiledSQL holds it to. Relations are named otherwise by dbt, with the database and in quotes;
all else is compared to the letter, and once more without space. For BigQuery dbt cannot compile without asking BigQuery whether
the tables of incremental models are there.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
golden = root / "sql" / "runner" / "testdata" / "compiled" / "duckdb"
PROFILE = """sluis:
  target: duckdb
  outputs:
    duckdb: {type: duckdb, path: FILE, schema: sluis_models}
"""


def followed():
    """The audiences that the test follows."""
    text = (root / "sql/runner/workspace_test.go").read_text()
    lists = [re.search(pattern, text).group(1) for pattern in (r"names := \[\]any\{(.*?)\}", r"var examples = \[\]string\{(.*?)\}")]
    return [name for names in lists for name in re.findall(r'"(\w+)"', names)]


def compile_all(dbt, folder):
    (folder / "profiles.yml").write_text(PROFILE.replace("FILE", str(folder / "warehouse.duckdb")))
    target = folder / "target"
    command = [dbt, "compile", "--project-dir", root / "sql", "--profiles-dir", folder, "--target-path", target]
    command += ["--no-populate-cache", "--full-refresh", "--no-version-check", "--log-path", folder / "logs", "--select", "resource_type:model"]
    command += ["--vars", json.dumps({"audiences": followed()})]
    environment = dict(os.environ, DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"dbt compile failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    files = target.glob("compiled/sluis/models/**/*.sql")
    return {file.stem: file.read_text() for file in files if file.parent.suffix != ".yml"}  # those are of tests


def ours(text):
    """A text with its relations as the runner names them."""
    return re.sub(r'"[^"]+"\."(\w+)"\."(\w+)"', r"\1.\2", text).strip()


def main(dbt):
    failed = exact = 0
    with tempfile.TemporaryDirectory() as folder:
        theirs = compile_all(dbt, pathlib.Path(folder))
    for file in sorted(golden.glob("*.sql")):
        want, got = file.read_text().strip(), ours(theirs.pop(file.stem, ""))
        if want == got:
            exact += 1
        elif "".join(want.split()) == "".join(got.split()):
            print(f"space      {file.stem}: the same but for space")
        else:
            print(f"DIFFERENT  {file.stem}")
            first = next(((a, b) for a, b in zip(want.split("\n"), got.split("\n")) if a != b), ("more lines", "or fewer"))
            print(f"  ours: {first[0]}\n  dbt:  {first[1]}")
            failed += 1
    print(f"{exact} models are the same to the letter")
    if failed or theirs or not exact:
        sys.exit(f"{failed} models differ; only dbt has {sorted(theirs)}")


if __name__ == "__main__":
    main(sys.argv[1])
