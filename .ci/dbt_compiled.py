"""Compile the project with dbt, for both warehouses, and compare each model's SQL with what the runner makes of it.

usage: dbt_compiled.py DBT

The runner's are the files that TestCompiledSQL holds it to. Relations are named otherwise by dbt, with the database and in quotes;
all else is compared to the letter, and once more with space as one. No warehouse is asked.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
golden = root / "sql" / "runner" / "testdata" / "compiled"
PROFILE = """sluis:
  target: duckdb
  outputs:
    duckdb: {type: duckdb, path: FILE, schema: sluis_models}
    bigquery: {type: bigquery, method: oauth-secrets, project: project, dataset: sluis_models, token: x, threads: 1}
"""


def followed():
    """The audiences that the test follows."""
    text = (root / "sql/runner/workspace_test.go").read_text()
    lists = [re.search(pattern, text).group(1) for pattern in (r"names := \[\]any\{(.*?)\}", r"var examples = \[\]string\{(.*?)\}")]
    return [name for names in lists for name in re.findall(r'"(\w+)"', names)]


def compile_all(dbt, folder, dialect):
    (folder / "profiles.yml").write_text(PROFILE.replace("FILE", str(folder / "warehouse.duckdb")))
    target = folder / dialect
    command = [dbt, "compile", "--project-dir", root / "sql", "--profiles-dir", folder, "--target", dialect, "--target-path", target]
    command += ["--no-populate-cache", "--full-refresh", "--no-version-check", "--log-path", folder / "logs", "--select", "resource_type:model"]
    command += ["--vars", json.dumps({"audiences": followed()})]
    environment = dict(os.environ, DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"dbt compile for {dialect} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    files = target.glob("compiled/sluis/models/**/*.sql")
    return {file.stem: file.read_text() for file in files if file.parent.suffix != ".yml"}  # those are of tests


def ours(text, dialect):
    """A text with its relations as the runner names them."""
    name = r'"[^"]+"\."(\w+)"\."(\w+)"' if dialect == "duckdb" else r"`[^`]+`\.`(\w+)`\.`(\w+)`"
    return re.sub(name, r"\1.\2", text).strip()


def main(dbt):
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for dialect in ("duckdb", "bigquery"):
            theirs = compile_all(dbt, pathlib.Path(folder), dialect)
            exact = 0
            for file in sorted((golden / dialect).glob("*.sql")):
                if file.stem not in theirs:
                    print(f"MISSING    {dialect} {file.stem}: dbt did not compile it")
                    failed += 1
                    continue
                want, got = file.read_text().strip(), ours(theirs.pop(file.stem), dialect)
                if want == got:
                    exact += 1
                    continue
                if "".join(want.split()).lower() != "".join(got.split()).lower():
                    print(f"DIFFERENT  {dialect} {file.stem}")
                    for mine, other in zip(want.split("\n"), got.split("\n")):
                        if mine != other:
                            print(f"  ours: {mine}\n  dbt:  {other}")
                            break
                    failed += 1
                else:
                    print(f"space      {dialect} {file.stem}: the same but for space")
            print(f"{dialect}: {exact} models are the same to the letter; only dbt has {sorted(theirs)}")
            failed += len(theirs)
    if failed:
        sys.exit(f"{failed} models differ")


if __name__ == "__main__":
    main(sys.argv[1])
