"""Hold selectors, names and artifacts against real dbt.

usage: dbt_selection.py golden                     write sql/runner/testdata/selection/{selected.txt,nodes.json} anew
       dbt_selection.py compare SLUIS WORKSPACE    ask both about a workspace's own models, and parse what Sluis wrote

Needs dbt-core 1.12, dbt-duckdb and dbt-artifacts-parser. The answers that `golden` writes are what the runner's tests want.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.pop(0)  # dbt takes every module called dbt_… that it finds for a plugin
os.environ.update(DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1")
from dbt.cli.main import dbtRunner  # noqa: E402

here = pathlib.Path(__file__).resolve().parent.parent / "sql/runner/testdata/selection"

# What is asked of the small project: a selector, and what is excluded or how tests are selected behind " | ".
QUESTIONS = """
*
visits
vis*
*s
shop.marts.visits
marts
marts.*
marts.money
shop.marts.money.*
staging.stg_o*
stg_?rders
stg_[eo]*
+visits
visits+
+visits+
1+visits
2+overview
stg_events+1
stg_events+2
1+visits+1
@stg_rates
@visits
+overview
tag:nightly
tag:nightly+
tag:fin*
tag:seed
tag:joins
tag:orders
path:models/marts
path:models/marts/
path:models/marts/money/revenue.sql
path:models/staging/_staging.yml
path:models/*/st*.sql
path:models/**/revenue.sql
path:tests
path:tests/checks
models/staging
file:revenue.sql
file:revenue
revenue.sql
currencies.csv
file:_marts.yml
source:landed
source:landed.events
source:landed.*
source:shop.landed.orders
source:*+
source:landed.events+
source:other+1
+source:landed.orders
config.materialized:view
config.materialized:table
config.materialized:ephemeral
config.materialized:incremental
config.severity:warn
config.severity:WARN
config.tags:nightly
config.meta.owner.team:money
config.full_refresh:false
config.enabled:true
resource_type:model
resource_type:seed
resource_type:test
resource_type:source
test_type:generic
test_type:singular
test_type:data
test_type:schema
test_name:unique
test_name:accepted*
test_name:unique_together
package:shop
package:this
package:other
access:protected
one_row_per_visit
no_revenue_without_visits
not_null_visits_event_id
tag:nightly,tag:finance
tag:nightly,resource_type:test
staging.*,+overview
visits,revenue
visits revenue
visits+,revenue+ currencies
+visits,+revenue
resource_type:test,visits+
* | --exclude visits+
* | --exclude tag:nightly
+overview | --exclude source:landed.events+
visits+ | --exclude overview
marts | --exclude test_type:generic
visits | --indirect-selection cautious
visits stg_orders | --indirect-selection cautious
visits stg_orders,tag:orders | --indirect-selection cautious
visits revenue | --indirect-selection cautious
revenue | --indirect-selection buildable
visits | --indirect-selection buildable
visits stg_orders | --indirect-selection buildable
overview+ | --indirect-selection buildable
visits | --indirect-selection empty
+overview | --indirect-selection empty
* | --indirect-selection empty
+overview | --indirect-selection cautious --exclude visits
""".strip().splitlines()

# What is asked of the models that Sluis comes with.
WORKSPACE_QUESTIONS = [
    "*", "tag:audience", "+tag:audience", "path:models/identity", "profiles+1", "2+profiles", "@sessions", "source:sluis.events+", "config.materialized:incremental+",
    "resource_type:test", "test_type:singular", "test_name:unique_together", "staging.*,+profiles", "+pricing_and_chat",
]


def unpack(archive, folder):
    for name, text in re.findall(r"^-- (\S+) --\n(.*?)(?=^-- \S+ --$|\Z)", archive.read_text(), re.M | re.S):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


class Dbt:
    """A project in real dbt, parsed once."""

    def __init__(self, project, profile, scratch):
        profiles = scratch / "profiles"
        profiles.mkdir()
        (profiles / "profiles.yml").write_text(
            f"{profile}:\n  target: duckdb\n  outputs:\n    duckdb: {{type: duckdb, path: '{scratch}/dbt.duckdb', schema: sluis_models, threads: 1}}\n"
        )
        self.common = ["--project-dir", str(project), "--profiles-dir", str(profiles), "--target-path", str(scratch / "target"), "--quiet"]
        self.runner = dbtRunner()
        self.runner = dbtRunner(manifest=self.call("parse").result)
        self.manifest = json.loads((scratch / "target/manifest.json").read_text())

    def call(self, *words):
        with contextlib.redirect_stdout(io.StringIO()):
            result = self.runner.invoke([words[0], *self.common, *words[1:]])
        if not result.success:
            raise RuntimeError(f"dbt {words}") from result.exception
        return result

    def ls(self, question):
        """List unique ids; only dbt's own are in its manifest, so packages of dbt are no matter."""
        select, _, options = question.partition(" | ")
        found = self.call("ls", "--output", "json", "--output-keys", "unique_id", "--select", *select.split(), *options.split()).result
        return sorted(json.loads(line)["unique_id"] for line in found)


def golden():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        unpack(here / "project.txtar", scratch / "shop")
        dbt = Dbt(scratch / "shop", "shop", scratch)
        answers = [question + "".join("\n  " + id for id in dbt.ls(question)) for question in QUESTIONS]
        (here / "selected.txt").write_text("\n".join(answers) + "\n")
        (here / "nodes.json").write_text(json.dumps(nodes(dbt.manifest), indent=1, sort_keys=True) + "\n")


def nodes(manifest):
    """What of a manifest has to be the same whoever wrote it."""
    every = {}
    for id, node in {**manifest["nodes"], **manifest["sources"]}.items():
        every[id] = {key: node[key] for key in ("name", "resource_type", "fqn", "original_file_path", "package_name")}
        every[id]["description"] = node["description"].strip()  # whose end ours cuts off
        every[id]["tags"] = sorted(node.get("tags", []))
        every[id]["columns"] = {name: column["description"].strip() for name, column in node["columns"].items()}
        every[id]["nodes"] = sorted(node.get("depends_on", {}).get("nodes", []))
        if node["resource_type"] == "source":
            # No bound is said by null, by a bound of nulls, or by no freshness at all.
            promise = node["freshness"] or {}
            bounds = {key: age for key in ("warn_after", "error_after") if (age := promise.get(key)) and age["count"] is not None}
            every[id]["freshness"] = {**bounds, "filter": promise["filter"]} if bounds else None
            every[id].update({key: node[key] for key in ("loaded_at_field", "loaded_at_query")})
        if node["resource_type"] in ("model", "seed"):
            every[id]["checksum"] = node["checksum"]
            every[id]["materialized"] = node["config"]["materialized"]
        for key in ("test_metadata", "column_name", "attached_node", "file_key_name"):
            if node.get(key) is not None:
                every[id][key] = node[key]
    return every


def check_yaml(project):
    """List what the JSON Schemas that dbt comes with, which editors check files of YAML by, find in a project."""
    import dbt.jsonschemas
    import jsonschema
    import yaml

    folder = pathlib.Path(dbt.jsonschemas.__file__).parent
    kinds = {kind: json.loads((folder / kind / "latest.json").read_text()) for kind in ("project", "resources")}
    checks = {kind: jsonschema.validators.validator_for(schema)(schema) for kind, schema in kinds.items()}
    files = sorted(project.glob("**/*.yml"))
    assert project / "dbt_project.yml" in files and len(files) > 10, "there is too little to check"
    for file in files:
        # They know no materialization of a project's own, which dbt does.
        text = file.read_text().replace("materialized: fixpoint", "materialized: table")
        kind = "project" if file.name == "dbt_project.yml" else "resources"
        for error in checks[kind].iter_errors(yaml.safe_load(text)):
            yield f"{file}: {'.'.join(map(str, error.path))}: {error.message}"


def compare(sluis, workspace):
    from dbt_artifacts_parser import parser

    failed = 0

    def same(what, theirs, ours):
        nonlocal failed
        print(f"{'same' if theirs == ours else 'DIFFERENT':<10} {what}")
        if theirs != ours:
            failed += 1
            for key in sorted(set(theirs) | set(ours)):
                left, right = (key in theirs, key in ours) if isinstance(theirs, list) else (theirs.get(key), ours.get(key))
                if left != right:
                    print(f"             {key}: dbt {left}, ours {right}")

    def run(*words, check=True):
        return subprocess.run([sluis, "models", *words, "--workspace", workspace], capture_output=True, text=True, check=check).stdout

    same("YAML and dbt's JSON Schemas", [], list(check_yaml(pathlib.Path(workspace) / "sql")))
    with tempfile.TemporaryDirectory() as scratch:
        dbt = Dbt(pathlib.Path(workspace) / "sql", "sluis", pathlib.Path(scratch))
        for question in WORKSPACE_QUESTIONS:
            listed = json.loads(run("ls", "--json", "--select", question))
            same(question, dbt.ls(question + (" | --resource-type model seed test unit_test")), sorted(node["unique_id"] for node in listed))
    run("build")
    target = pathlib.Path(workspace) / "data/target"
    manifest, results = (json.loads((target / name).read_text()) for name in ("manifest.json", "run_results.json"))
    # dbt keeps the tests of models that are not enabled, which read nothing then, and hooks, which ours has built in.
    own = {id: node for id, node in nodes(dbt.manifest).items() if node["package_name"] == "sluis" and node["resource_type"] != "operation" and (node["nodes"] or node["resource_type"] in ("model", "seed", "source"))}
    same("nodes of the manifest", own, nodes(manifest))
    parsed = parser.parse_manifest_v12(manifest)
    assert len(parsed.nodes) == len(manifest["nodes"]) > 0, "the manifest lost nodes"
    parsed = parser.parse_run_results_v6(results)
    ids = {r.unique_id for r in parsed.results}
    assert ids and ids <= set(manifest["nodes"]) | set(manifest["unit_tests"]), "results are of no nodes"
    same("unit tests of the manifest", *(sorted((t["unique_id"], t["model"]) for t in m["unit_tests"].values()) for m in (dbt.manifest, manifest)))
    run("source", "freshness", check=False)  # nothing has landed, which is not fresh
    parsed = parser.parse_sources_v3(json.loads((target / "sources.json").read_text()))
    assert {r.unique_id for r in parsed.results} == {"source.sluis.sluis.events", "source.sluis.sluis.ledger"}, "sources are missing"
    run("docs")
    parsed = parser.parse_catalog_v1(json.loads((target / "catalog.json").read_text()))
    assert parsed.nodes, "the catalog is empty"
    print("parsed     manifest.json, run_results.json, sources.json, catalog.json by dbt-artifacts-parser")
    return failed


if sys.argv[1:] == ["golden"]:
    golden()
elif len(sys.argv) == 4 and sys.argv[1] == "compare":
    sys.exit(1 if compare(*sys.argv[2:]) else 0)
else:
    sys.exit(__doc__)
