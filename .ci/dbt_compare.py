"""Build a workspace's models with dbt and compare every table with the runner's.

usage: dbt_compare.py WORKSPACE DBT

The runner's tables are taken from a copy of the warehouse file; dbt builds into a database of its own, over the same landed rows.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import duckdb

workspace, dbt = pathlib.Path(sys.argv[1]), sys.argv[2]
ours = workspace / "ours.duckdb"
theirs = workspace / "dbt.duckdb"
shutil.copy(workspace / "data" / "warehouse.duckdb", ours)

# dbt reads the landing tables from tables of the same rows: the views in our file name files that a copy may not read.
with duckdb.connect(str(theirs)) as db:
    db.execute("set timezone = 'UTC'")
    db.execute(f"attach '{ours}' as ours (read_only)")
    db.execute("create schema sluis")
    for (name,) in db.execute(
        "select view_name from duckdb_views() where database_name = 'ours' and schema_name = 'sluis'"
    ).fetchall():
        db.execute(f"create table sluis.{name} as select * from ours.sluis.{name}")

profiles = workspace / "profiles"
profiles.mkdir()
(profiles / "profiles.yml").write_text(
    f"""sluis:
  target: duckdb
  outputs:
    duckdb:
      type: duckdb
      path: {theirs}
      schema: sluis_models
      threads: 1
      settings: {{timezone: UTC}}
"""
)
environment = dict(os.environ, DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
subprocess.run(
    [dbt, "build", "--project-dir", workspace / "sql", "--profiles-dir", profiles],
    check=True,
    env=environment,
)

failed = 0
with duckdb.connect(str(theirs)) as db:
    db.execute("set timezone = 'UTC'")
    db.execute(f"attach '{ours}' as ours (read_only)")
    names = [
        name
        for (name,) in db.execute(
            "select table_name from duckdb_tables() where database_name = 'ours' and schema_name = 'sluis_models' order by 1"
        ).fetchall()
    ]
    for name in names:
        mine, other = f"ours.sluis_models.{name}", f"sluis_models.{name}"
        extra = db.execute(f"select count(*) from (select * from {mine} except all select * from {other})").fetchone()[0]
        missing = db.execute(f"select count(*) from (select * from {other} except all select * from {mine})").fetchone()[0]
        rows = db.execute(f"select count(*) from {mine}").fetchone()[0]
        print(f"{'same' if extra == missing == 0 else 'DIFFERENT':<10} {name} ({rows} rows, {extra} only ours, {missing} only dbt's)")
        failed += extra + missing
print(f"{len(names)} passed, 0 failed" if not failed else f"{failed} rows differ")
sys.exit(1 if failed or not names else 0)
