"""Build a workspace's models with dbt and compare every table with the runner's, and what dbt adds to with what it builds anew.

usage: dbt_compare.py WORKSPACE SLUIS DBT FOLDER [once]

The runner's tables are taken from a copy of the warehouse file; dbt builds into databases of its own in FOLDER, over the same landed
rows; with once, only the first build is compared. How fresh the sources are both are asked, too. Columns are compared by name, since under a contract dbt has those of a table in the
order of the YAML.
"""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

import duckdb

workspace, sluis, dbt, folder = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
# The unit tests that give a column lists, in rows that are not SQL: "Only primitive types […] are supported for unit_testing" by the candidate.
LISTS = ["visited_pricing_and_used_live_chat", "an_event_that_came_twice_is_the_first_one", "a_pause_of_thirty_minutes_ends_no_visit"]
# Those of an incremental model: the candidate asks its table for its columns, and there is none yet.
GOES_ON = ["profiles_of_a_cluster_that_is_no_more_go", "a_profile_is_named_after_who_was_seen_first", "one_refusal_of_a_person_is_all_of_theirs", "position_gives_the_first_and_the_last_most"]
# What is far from the events has rows, or little is compared.
FULL = ["account_members", "attribution_credits", "conversions", "good_customers", "identity_edges", "pricing_and_chat", "profile_sealed"]
ours, theirs, anew = (folder / name for name in ("ours.duckdb", "dbt.duckdb", "anew.duckdb"))


def connect(path, other=None):
    db = duckdb.connect(str(path))
    db.execute("set timezone = 'UTC'")
    if other:
        db.execute(f"attach '{other}' as other (read_only)")
    return db


def run(path, *verb, check=True):
    environment = dict(os.environ, SLUIS_DB=str(path), DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
    where = ["--project-dir", workspace / "sql", "--profiles-dir", folder, "--target-path", folder / "target", "--log-path", folder / "logs"]
    subprocess.run([dbt, *verb, *where], check=check, env=environment)


def build(path):
    run(path, "build")


def loaded(text):
    """When the newest row was loaded; None for none, which dbt 1 has at the year 1 and dbt 2 at 1970."""
    at = datetime.datetime.fromisoformat(text)
    return at if at.year > 1970 else None


def freshness(path):
    """Count the sources of which both tell otherwise, or nothing: where they are fresh, and where nothing is fresh enough."""
    failed = 0
    for hours, want in ((48, "pass"), (0, "error")):
        bounds = ["--vars", json.dumps({"silent_hours": hours})]
        run(path, "source", "freshness", *bounds, check=want == "pass")
        subprocess.run([sluis, "models", "source", "freshness", "--workspace", workspace, *bounds], stdout=subprocess.DEVNULL, check=want == "pass")
        told = []
        for target in (folder / "target", workspace / "data" / "target"):
            results = json.loads((target / "sources.json").read_text())["results"]
            told.append({r["unique_id"]: (r["status"].lower(), loaded(r["max_loaded_at"])) for r in results})
        theirs, ours = told
        same = theirs == ours and {status for status, _ in ours.values()} == {want}
        print(f"{'same' if same else 'DIFFERENT':<10} freshness of sources: {len(ours)} {want}" + ("" if same else f", dbt {theirs}, ours {ours}"))
        failed += 0 if same and ours else 1
    return failed


def compare(path, with_path, what):
    """Count the rows that differ between the models in two files; exit if there are none to compare."""
    failed, empty = 0, []
    with connect(path, with_path) as db:
        names = [
            name
            for (name,) in db.execute(
                "select table_name from duckdb_tables() where database_name = 'other' and schema_name = 'sluis_models' order by 1"
            ).fetchall()
        ]
        for name in names:
            if name in ("audience_events", "identity_changes"):
                continue  # what runs noticed, and when: no two databases have had the same runs
            mine, other = f"other.sluis_models.{name}", f"sluis_models.{name}"
            columns, others = (
                db.execute(
                    "select column_name, data_type from duckdb_columns() where schema_name = 'sluis_models' and table_name = ?"
                    f" and database_name {sign} 'other' order by 1",
                    [name],
                ).fetchall()
                for sign in ("=", "<>")
            )
            if columns != others:
                print(f"DIFFERENT  {name} has {set(columns) ^ set(others)} on one side only")
                failed += 1
                continue
            listed = ", ".join(f'"{column}"' for column, _ in columns)
            extra, missing = (
                db.execute(f"select count(*) from (select {listed} from {a} except all select {listed} from {b})").fetchone()[0]
                for a, b in ((mine, other), (other, mine))
            )
            rows = db.execute(f"select count(*) from {mine}").fetchone()[0]
            same = "same" if extra == missing == 0 else "DIFFERENT"
            print(f"{same:<10} {name} ({rows} rows, {extra} only {what}, {missing} only dbt's)")
            failed += extra + missing
            empty += [name] if rows == 0 and name in FULL else []
    if empty:
        sys.exit(f"there is nothing to compare in {', '.join(empty)}")
    if not names:
        sys.exit("there is nothing to compare")
    print(f"{len(names)} passed, 0 failed" if not failed else f"{failed} rows differ")
    return failed


def land(db, event, days_ago, pseudonym, offset):
    """Land an event like the others, by a collector that was offline."""
    at = f"(select max(received_at) from sluis.events) - interval {days_ago} day"
    db.execute(
        f"""insert into sluis.events select * replace ('{event}' as event_id, {at} as received_at, {at} as occurred_at,
        '{pseudonym}' as anonymous_id, null as user_id, [{{'kind': 'anonymous_id', 'pseudonym': '{pseudonym}'}}] as identifiers,
        'late' as spool_id, {offset} as spool_offset) from sluis.events where spool_id <> 'late' limit 1"""
    )


def count(db, event, page, device, n):
    """Land a number of refused events, of an hour that has settled."""
    db.execute(
        f"""insert into sluis.counts by name select 'late' as source_id, date_trunc('hour', max(minute)) - interval 1 day as hour,
        'track' as type, '{event}' as event, '{page}' as page, '{device}' as device_class, {n} as n, 'late' as spool_id, 1 as spool_offset
        from sluis.ledger"""
    )


# dbt reads the landing tables from tables of the same rows: the views in our file name files that a copy may not read.
shutil.copy(workspace / "data" / "warehouse.duckdb", ours)
with connect(theirs, ours) as db:
    db.execute("create schema sluis")
    for (name,) in db.execute(
        "select view_name from duckdb_views() where database_name = 'other' and schema_name = 'sluis'"
    ).fetchall():
        db.execute(f"create table sluis.{name} as select * from other.sluis.{name}")

(folder / "profiles.yml").write_text(
    """sluis:
  target: duckdb
  outputs:
    duckdb:
      type: duckdb
      path: "{{ env_var('SLUIS_DB') }}"
      schema: sluis_models
      threads: 1
      settings: {timezone: UTC}
"""
)
once = "once" in sys.argv[5:]
failed = freshness(theirs)
run(theirs, "build", *(["--exclude", *LISTS, *GOES_ON] if once else []))
failed += compare(theirs, ours, "ours")

if once:
    sys.exit(1 if failed else 0)

# What comes later: first rows of days of their own; then the erasure of all that is on one of these days, a copy on an
# earlier day of all that is on another, and a copy on a later day of what is there already.
with connect(theirs) as db:
    land(db, "late-1", 3, "gone", 1)
    land(db, "late-2", 2, "stays", 2)
build(theirs)
with connect(theirs) as db:
    db.execute("delete from sluis.events where anonymous_id = 'gone'")  # as an erasure does
    land(db, "late-2", 5, "stays", 3)
    land(db, "late-2", 0, "stays", 4)
    land(db, "late-3", 4, "stays", 5)
    for page, device, n in (("/a", "desktop", 40), ("/a", "mobile", 15), ("/a", "tablet", 5), ("/b", "desktop", 12), ("/b", "bot", 7)):
        count(db, "Refused", page, device, n)
build(theirs)
shutil.copy(theirs, anew)
with connect(anew) as db:
    db.execute("drop schema sluis_models cascade")
build(anew)
failed += compare(theirs, anew, "anew")
with connect(theirs) as db:
    late = db.execute("select event_id from sluis_models.stg_events where spool_id = 'late' order by 1").fetchall()
    if late != [("late-2",), ("late-3",)]:
        sys.exit(f"of what came later stg_events has {late}")
    counts = db.execute("select detail, page, device_class, n from sluis_models.counts_published where source_id = 'late' order by 1, 2").fetchall()
    if counts != [("device", "/a", "desktop", 40), ("page", "/a", None, 20)]:
        sys.exit(f"of what was counted without consent {counts} is published")
sys.exit(1 if failed else 0)
