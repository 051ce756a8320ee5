"""Renders the templates of corpus.txt, and random ones, with Jinja2 as dbt sets it up, and writes what comes out to expected.json.

    pip install jinja2==3.1.6 dbt-common==1.39.0
    python generate.py            # writes expected.json
    python generate.py --check    # fails if it would write something else
    python generate.py --random SEED COUNT FILE   # more of the random ones

Results that are not the same each time, such as addresses and the order of sets, count as errors: nobody wants them in SQL.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

here = Path(__file__).parent
CONTEXT = {
    "s": "abc", "t": "Hello, World", "empty": "", "n": 7, "z": 0, "neg": -3, "f": 2.5, "yes": True, "no": False, "nil": None,
    "l": [3, 1, 2], "words": ["b", "a", "C"], "nested": [[1, 2], [3]], "d": {"b": 1, "a": 2, "c": 3},
    "rows": [{"id": 1, "name": "x", "v": 2.5}, {"id": 2, "name": "Y", "v": -1}, {"id": 3, "name": "x", "v": 10}],
    "ünï": "é", "multi": "a\nb\n\nc",
}


class unstable(Exception):
    """What is not the same each time."""


def environment():
    from dbt_common.clients.jinja import CallableMacroGenerator, extract_toplevel_blocks, get_environment
    from dbt_common.exceptions.macros import MacroReturn

    def give_back(data=None):
        raise MacroReturn(data)

    def by_chance(*_):  # two draws of three may well be the same, so comparing them tells nothing
        raise unstable

    context = json.loads(json.dumps(CONTEXT))
    context |= {"return": give_back, "zip": lambda *args: zip(*args), "set": lambda value: set(value)}
    for block in extract_toplevel_blocks((here / "macros.sql").read_text(), allowed_blocks={"macro"}, collect_raw_data=False):
        macro = SimpleNamespace(name=block.block_name, macro_sql=block.full_block, original_file_path="macros.sql", unique_id=block.block_name)
        context[block.block_name] = CallableMacroGenerator(macro, context)
    env = get_environment()
    env.filters["random"] = by_chance
    return env, context


def render(template):
    env, context = environment()
    try:
        text = env.from_string(template, globals=context).render(context)
    except BaseException as e:  # MacroReturn is one
        return None, type(e).__name__
    if re.search(r"<(?!Namespace)[^>]* at 0x|<bound|<built-in|<function|<class|Undefined", text):
        return None, "unstable"
    try:
        text.encode()
    except UnicodeEncodeError:
        return None, "surrogate"
    return text, None


def handwritten():
    lines, block = (here / "corpus.txt").read_text().split("\n"), None
    for line in lines:
        if line == "<<<":
            block = []
        elif line == ">>>":
            yield "\n".join(block)
            block = None
        elif block is not None:
            block.append(line)
        elif line and not line.startswith("##"):
            yield line


class Grammar:
    """Random templates, of which most can be rendered."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *choices):
        return self.r.choice(choices)

    def number(self, depth=0):
        if depth > 2:
            return self.pick("1", "2", "3", "0", "7", "n", "z", "neg", "f", "10", "2.5", "1e3", "-4", "0.1", "yes", "1_000")
        e = lambda: self.number(depth + 1)
        return self.pick(
            e, e, lambda: f"{e()} {self.pick('+', '-', '*', '/', '//', '%')} {e()}", lambda: f"({e()} {self.pick('+', '-', '*', '//', '%', '/')} {e()})",
            lambda: f"{self.pick('2', '3', 'n', '-2')}**{self.pick('2', '3', '0', '-1', '2**2')}", lambda: f"-{e()}", lambda: f"{self.seq(depth + 1)}|length",
            lambda: f"({e()})|{self.pick('abs', 'int', 'float', 'round', 'round(1)', 'string|length')}", lambda: f"[{e()}, {e()}]|{self.pick('sum', 'max', 'min', 'first', 'last')}",
            lambda: f"{self.text(depth + 1)}|length", lambda: f"({e()} if {self.cond(depth + 1)} else {e()})", lambda: f"loop.{self.pick('index', 'index0', 'revindex', 'length')}",
            lambda: f"d.{self.pick('a', 'b', 'c')}", lambda: f"rows[{self.pick('0', '1', '-1')}].{self.pick('id', 'v')}", lambda: f"add({e()}, {e()})",
        )()

    def text(self, depth=0):
        if depth > 2:
            return self.pick("s", "t", "empty", "'x'", '"y z"', "'it\\'s'", "'a,b,c'", "multi", "ünï", "'%d'", "' pad '", "'Ab'")
        e = lambda: self.text(depth + 1)
        return self.pick(
            e, e, lambda: f"{e()} ~ {self.any(depth + 1)}", lambda: f"({e()} + {e()})", lambda: f"{e()}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'reverse', 'string', 'indent(2)', 'indent', 'center(9)')}",
            lambda: f"{e()}.{self.pick('upper()', 'lower()', 'strip()', 'title()', 'capitalize()', 'swapcase()', 'lstrip()', 'zfill(5)', 'center(8, chr)'.replace('chr', repr('*')), 'rjust(6)')}",
            lambda: f"{e()}|replace({e()}, {e()})", lambda: f"{e()}.replace({e()}, {e()})", lambda: f"{self.seq(depth + 1)}|join({self.pick(repr(', '), repr(''), repr(' and '))})",
            lambda: f"{e()}[{self.pick('0', '-1', ':2', '1:', '::2', '::-1', '-2:', ':', '1:-1', '5')}]", lambda: f"'%s' % {self.pick('n', 'f', 's', 'nil', 'yes')}", lambda: f"'%s-%s' % ({self.any(depth + 1)}, {self.any(depth + 1)})",
            lambda: f"'%{self.pick('05d', '5d', '-5d', '+d', '.2f', '8.3f', 'x', 'o', 'e', 'g', '.3g', 'r', '5s', '-5s', '.1s', 'd')}' % {self.number(depth + 1)}",
            lambda: "'{} {}'.format(" + f"{self.any(depth + 1)}, {self.any(depth + 1)})",
            lambda: "'{" + self.pick("0", "", "0:>5", "0:<5", "0:^7", "0:05d", "0:.2f", "0:,", "0!r", "0:+d", "0:x", "0:e", "0:g", "0:.1%", "0:*^9") + "}'.format(" + self.any(depth + 1) + ")",
            lambda: f"{e()} * {self.pick('2', '0', '-1')}", lambda: f"wrap({e()})", lambda: f"({e()} if {self.cond(depth + 1)} else {e()})", lambda: f"{e()}|default({e()})", lambda: f"nope|default({e()})",
        )()

    def seq(self, depth=0):
        if depth > 2:
            return self.pick("l", "words", "nested", "[1, 2, 3]", "['p', 'q']", "(1, 2)", "range(3)", "[]", "d", "rows", "range(5, 0, -2)", "[1, 'a', none]", "d.items()", "d.keys()", "d.values()")
        e = lambda: self.seq(depth + 1)
        return self.pick(
            e, e, lambda: f"[{self.any(depth + 1)}, {self.any(depth + 1)}]", lambda: f"({self.any(depth + 1)},)", lambda: f"({e()} + {e()})", lambda: f"{e()}|{self.pick('list', 'sort', 'reverse|list', 'unique|list', 'sort(reverse=true)', 'batch(2)|list')}",
            lambda: f"({e()})[{self.pick('1:', ':2', '::-1', ':-1')}]", lambda: f"{self.text(depth + 1)}.split({self.pick('', repr(','), repr(' '))})", lambda: f"rows|map(attribute={self.pick(repr('id'), repr('name'), repr('v'))})|list",
            lambda: f"{e()}|map({self.pick(repr('string'), repr('upper'), repr('int'))})|list", lambda: f"{e()}|{self.pick('select', 'reject')}({self.pick('', repr('odd'), repr('number'), repr('string'), repr('gt') + ', 1')})|list", lambda: f"{e()} * 2",
            lambda: f"rows|selectattr({self.pick(repr('v'), repr('name') + ', ' + repr('eq') + ', ' + repr('x'), repr('id') + ', ' + repr('gt') + ', 1')})|map(attribute='id')|list", lambda: f"{self.dict(depth + 1)}", lambda: f"pair({self.any(depth + 1)}, {self.any(depth + 1)})",
        )()

    def dict(self, depth=0):
        if depth > 2:
            return "d"
        return self.pick("d", "{}", f"{{'k': {self.any(depth + 1)}}}", f"{{'k': {self.any(depth + 1)}, 'b': {self.any(depth + 1)},}}", f"dict(d, x={self.any(depth + 1)})", f"{{1: {self.any(depth + 1)}, true: 2}}")

    def any(self, depth=0):
        return self.r.choices([self.number, self.text, self.seq, self.cond, self.dict, lambda _: self.pick("none", "true", "false", "nil")], [4, 4, 2, 2, 1, 1])[0](depth)

    def cond(self, depth=0):
        if depth > 2:
            return self.pick("yes", "no", "true", "false", "n", "s", "empty", "nil", "l", "nope", "nope is defined", "loop.first", "loop.last")
        e = lambda: self.cond(depth + 1)
        compare = lambda: self.pick("==", "!=", "<", "<=", ">", ">=")
        return self.pick(
            e, lambda: f"not {e()}", lambda: f"{e()} and {e()}", lambda: f"{e()} or {e()}", lambda: f"({e()})", lambda: f"{self.number(depth + 1)} {compare()} {self.number(depth + 1)}", lambda: f"{self.text(depth + 1)} {compare()} {self.text(depth + 1)}",
            lambda: f"{self.number(depth + 1)} {compare()} {self.number(depth + 1)} {compare()} {self.number(depth + 1)}", lambda: f"{self.any(depth + 1)} {self.pick('in', 'not in')} {self.seq(depth + 1)}", lambda: f"{self.text(depth + 1)} in {self.text(depth + 1)}",
            lambda: f"{self.any(depth + 1)} is {self.pick('', 'not ')}{self.pick('defined', 'none', 'string', 'number', 'integer', 'float', 'boolean', 'mapping', 'iterable', 'sequence', 'true', 'false', 'sameas none', 'eq 1', 'in [1, 2]')}",
            lambda: f"{self.number(depth + 1)} is {self.pick('odd', 'even', 'divisibleby 3', 'ge 2')}", lambda: f"{self.any(depth + 1)} == {self.any(depth + 1)}",
        )()

    def space(self):
        return self.pick("", "", "", " ", "\n", "  \n ", "text", ", ", "-- c\n")

    def open(self):
        return self.pick("{%", "{%", "{%-", "{%+"), self.pick("%}", "%}", "-%}", "+%}")

    def tag(self, content):
        a, b = self.open()
        return f"{a} {content} {b}"

    def put(self, content):
        return self.pick("{{ ", "{{- ") + content + self.pick(" }}", " -}}")

    def body(self, depth, loop=False):
        return "".join(self.space() + self.statement(depth, loop) for _ in range(self.r.randint(1, 3))) + self.space()

    def statement(self, depth=0, loop=False):
        if depth > 2:
            return self.put(self.any())
        b = lambda loop=loop: self.body(depth + 1, loop)
        t = self.tag
        choices = [
            lambda: self.put(self.any()), lambda: self.put(self.any()), lambda: self.put(self.text()), lambda: t(f"set x = {self.any()}") + self.put("x|default('-')"),
            lambda: t(f"if {self.cond()}") + b() + (t(f"elif {self.cond()}") + b() if self.pick(0, 1) else "") + (t("else") + b() if self.pick(0, 1) else "") + t("endif"),
            lambda: t(f"for x in {self.seq()}" + (f" if {self.cond()}" if self.pick(0, 0, 1) else "")) + b(True) + self.put("x") + (t("else") + b() if self.pick(0, 0, 1) else "") + t("endfor"),
            lambda: t(f"for k, v in {self.pick('d.items()', 'd | dictsort', 'zip(words, l)', '[(1, 2), (3, 4)]')}") + self.put("k ~ v") + b(True) + t("endfor"), lambda: t("set y") + b() + t("endset") + self.put("y|length"),
            lambda: t(f"set a, b = {self.any()}, {self.any()}") + self.put("a") + self.put("b"), lambda: t("set ns = namespace(c=0)") + t(f"for i in {self.seq()}") + t("set ns.c = ns.c + 1") + t("endfor") + self.put("ns.c"),
            lambda: t("set acc = []") + t(f"for i in {self.seq()}") + t("do acc.append(i)") + t("endfor") + self.put("acc"), lambda: t("set m = {}") + t(f"do m.update({{'q': {self.any()}}})") + self.put("m"),
            lambda: t(f"call wrap_caller({self.any()})") + b() + t("endcall"), lambda: t(f"call(i) each({self.seq()})") + self.put("i") + t("endcall"), lambda: t(f"filter {self.pick('upper', 'trim', 'indent(3)', 'length', 'replace(' + repr('a') + ', ' + repr('b') + ')')}") + b() + t("endfilter"),
            lambda: "{#" + self.pick("", "-") + " {{ not }} " + self.pick("", "-") + "#}", lambda: t("raw") + "{{ raw }}" + t("endraw"), lambda: t(f"with w = {self.any()}") + self.put("w") + b() + t("endwith"), lambda: self.put(f"varied({self.any()}, {self.any()}, k={self.any()})"),
            lambda: self.put(f"opts({self.pick('', 'b=')}{self.any()})"),
        ]
        if loop:
            choices += [lambda: t("set x = 'in'") + self.put("x"), lambda: t(f"if {self.cond()}") + t(self.pick("break", "continue")) + t("endif"), lambda: self.put("loop." + self.pick("index", "first", "last", "length", "revindex", "previtem|default(0)", "nextitem|default(0)", "index0", "cycle('a', 'b')", "depth"))]
        return self.pick(*choices)()


def generated(seed, count):
    g, seen = Grammar(seed), set()
    while len(seen) < count:
        template = g.body(0)
        if len(template) < 400 and template not in seen:
            seen.add(template)
            yield template


def render_all(templates):
    """Renders in processes with another order of sets each: what differs is unstable."""
    if os.environ.get("PYTHONHASHSEED") in ("1", "2"):
        raise RuntimeError("nested")
    outcomes = []
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, __file__, "--render"], input=json.dumps(templates), capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        outcomes.append(json.loads(done.stdout))
    for template, (one, error), (two, _) in zip(templates, *outcomes):
        yield [template, one, ""] if one == two and one is not None else [template, None, error or "unstable"]


def document(written, generated):
    """All that was written by hand; of what is random, what can be rendered, and a part of the errors."""
    rows = list(render_all(written)) + [row for i, row in enumerate(render_all(generated)) if row[1] is not None or i % 10 == 0]
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{{"context": {json.dumps(CONTEXT, ensure_ascii=False)},\n"cases": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    sys.set_int_max_str_digits(0)
    if sys.argv[1:] == ["--render"]:
        json.dump([render(t) for t in json.load(sys.stdin)], sys.stdout)
    elif sys.argv[1:2] == ["--random"]:
        Path(sys.argv[4]).write_text(document([], list(generated(int(sys.argv[2]), int(sys.argv[3])))))
    else:
        text = document(list(handwritten()), list(generated(1, 1400)))
        target = here / "expected.json"
        if "--check" in sys.argv and target.read_text() != text:
            sys.exit("expected.json is not what Jinja2 renders: run generate.py")
        target.write_text(text)
