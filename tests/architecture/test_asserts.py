"""Every test can fail: asserts that are true whatever the code does are found in the syntax trees of the tests.

What no syntax tree shows (a tolerance that nothing exceeds, a loop that never runs) is for reviewers and planted faults.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
RAISING = {"raises", "fail", "warns", "gradcheck", "gradgradcheck"}  # calls that fail where they should
COMPARING = {"approx", "assert_close", "isclose", "allclose", "equal", "array_equal"}
LARGE = 0.2  # a relative tolerance that lets a wrong factor pass
# file::test -> why it needs no assert
BY_RUNNING = {"test_docs.py::test_block_runs": "a page's code is right if it runs; its own asserts are in the page"}


def calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call below a node, with the last word of what is called."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            function = call.func
            yield (
                function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else "",
                call,
            )


def fails_by_itself(node: ast.AST) -> bool:
    """Whether something below can fail: an assert, a raise, or a call made for that."""
    if any(isinstance(n, (ast.Assert, ast.Raise)) for n in ast.walk(node)):
        return True
    return any(word in RAISING or word.startswith(("assert_", "check_")) for word, _ in calls(node))


def checkers(trees: Iterable[ast.Module]) -> set[str]:
    """Names of functions that can fail, directly or through each other."""
    functions = [n for tree in trees for n in ast.walk(tree) if isinstance(n, FUNCTIONS)]
    found = {n.name for n in functions if fails_by_itself(n)}
    while more := {n.name for n in functions if n.name not in found and any(word in found for word, _ in calls(n))}:
        found |= more
    return found


def rows(test: ast.AST) -> tuple[set[str], list[ast.expr]]:
    """Names that `parametrize` gives a test, and the lists of rows."""
    names: set[str] = set()
    lists = []
    for word, call in (pair for d in getattr(test, "decorator_list", []) for pair in calls(d)):
        if word == "parametrize" and len(call.args) > 1:
            lists.append(call.args[1])
            names |= {
                part.strip() for n in ast.walk(call.args[0]) if isinstance(n, ast.Constant) for part in str(n.value).split(",")
            }
    return names, lists


def loaded(node: ast.AST) -> set[str]:
    """Names that an expression reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def parts(test: ast.expr, kind: type[ast.boolop]) -> list[ast.expr]:
    """The operands of `and` or of `or`."""
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, kind) else [test]


def alike(left: ast.expr, right: ast.expr) -> bool:
    """Whether two expressions are one and the same, and no call that could answer differently the second time."""
    return ast.unparse(left) == ast.unparse(right) and not list(calls(left))


def weak(test: ast.expr, given: set[str]) -> Iterator[str]:
    """What makes an assert's expression true too easily; `given` are the names that the test's rows decide."""
    if isinstance(test, (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.JoinedStr, ast.Lambda)):
        yield "assert of something that is true by itself"
    for part in parts(test, ast.And):
        options = parts(part, ast.Or)
        if len(options) > 1 and any(not loaded(option) - given - {"len"} for option in options):
            yield "or with what the row alone decides: nothing is asserted of such rows"
        texts = {
            ast.unparse(o.comparators[0]) if isinstance(o, ast.Compare) and isinstance(o.ops[0], ast.In) else "" for o in options
        }
        if len(options) > 1 and len(texts) == 1 and texts != {""}:
            yield "one text or another: say which"
        same = isinstance(part, ast.Compare) and isinstance(part.ops[0], (ast.Eq, ast.Is, ast.GtE, ast.LtE))
        if same and alike(part.left, part.comparators[0]):
            yield "something compared with itself"
        if isinstance(part, ast.Attribute) and part.attr.startswith(("is_", "isfinite", "startswith", "endswith", "exists")):
            yield "a method that is not called"
        for word, call in calls(part):
            if word == "all" and call.args and isinstance(call.args[0], ast.GeneratorExp) and call.args[0].generators[0].ifs:
                yield "all of a filtered selection, which may be empty"


def loose(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Comparisons that nothing fails."""
    for word, call in calls(tree):
        given = {k.arg: k.value for k in call.keywords}
        sizes = [given.get(name) for name in ("rel", "rtol", "rel_tol")] if word in COMPARING else []
        for size in sizes:
            if isinstance(size, ast.Constant) and size.value > LARGE:
                yield call.lineno, f"a tolerance of {size.value:.0%}"
        if word in COMPARING and len(call.args) > 1 and alike(*call.args[:2]):
            yield call.lineno, "something compared with itself"
        if (
            word == "raises"
            and "match" not in given
            and call.args
            and ast.unparse(call.args[0]) in ("Exception", "BaseException")
        ):
            yield call.lineno, "any exception will do"


def faults(tree: ast.Module, can_fail: set[str], name: str = "") -> list[str]:
    """What lets a test of this file pass whatever the code does."""
    found = []
    constants = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    for test in (n for n in ast.walk(tree) if isinstance(n, FUNCTIONS)):
        given, lists = rows(test)
        found += [
            f"{n.lineno}: {text}" for n in ast.walk(test) if isinstance(n, ast.Assert) for text in weak(n.test, given | constants)
        ]
        if not test.name.startswith("test"):
            continue
        if (
            not fails_by_itself(test)
            and not {word for word, _ in calls(test)} & can_fail
            and f"{name}::{test.name}" not in BY_RUNNING
        ):
            found.append(f"{test.lineno}: {test.name} asserts nothing")
        body = {n for statement in test.body for n in loaded(statement)}
        fixtures = {n for d in test.decorator_list for n in loaded(d)}
        found += [f"{test.lineno}: {n} never reaches {test.name}" for n in sorted(given - body - fixtures)]
        found += [f"{test.lineno}: no row" for rows_ in lists if isinstance(rows_, (ast.List, ast.Tuple)) and not rows_.elts]
    return found + [f"{line}: {text}" for line, text in loose(tree)]


def test_every_test_can_fail() -> None:
    trees = {path.relative_to(TESTS).as_posix(): ast.parse(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert len(trees) > 40
    can_fail = checkers(trees.values())
    assert {name: found for name, tree in trees.items() if (found := faults(tree, can_fail, name))} == {}
    for place in BY_RUNNING:
        name, test = place.split("::")
        assert test in {n.name for n in ast.walk(trees[name]) if isinstance(n, FUNCTIONS)}, f"{place} is no longer there"


ROW = "@pytest.mark.parametrize('a', [1, 2])\n"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def test_a():\n    f()", "test_a asserts nothing"),
        ("def helper(): f()\ndef test_a():\n    helper()", "test_a asserts nothing"),
        ("def test_a():\n    assert (f() == 1, 'message')", "true by itself"),
        ("def test_a():\n    assert 'f() == 1'", "true by itself"),
        ("def test_a():\n    assert f() == 1 or True", "the row alone decides"),
        (ROW + "def test_a(a):\n    assert f(a) == 1 or a == 2", "the row alone decides"),
        (ROW + "def test_a(a):\n    assert f(a) and (g(a) > 0 or len(a) == 2)", "the row alone decides"),
        ("SAME = [1]\n" + ROW + "def test_a(a):\n    assert f(a) or a in SAME", "the row alone decides"),
        ("def test_a():\n    assert 'x' in f() or 'y' in f()", "one text or another"),
        ("def test_a():\n    a = f()\n    assert a.b == a.b", "compared with itself"),
        ("def test_a():\n    assert_close(a.b, a.b)", "compared with itself"),
        ("def test_a():\n    assert path.is_file", "not called"),
        ("def test_a():\n    assert all(x > 0 for x in f() if x < 9)", "which may be empty"),
        ("def test_a():\n    assert f() == pytest.approx(1, rel=0.9)", "a tolerance of 90%"),
        ("def test_a():\n    with pytest.raises(Exception):\n        f()", "any exception"),
        (ROW + "def test_a(a):\n    assert f() == 1", "a never reaches test_a"),
        ("@pytest.mark.parametrize('a', [])\ndef test_a(a):\n    assert f(a) == 1", "no row"),
    ],
)
def test_weak_asserts_are_seen(source: str, fault: str) -> None:
    tree = ast.parse(source)
    (found,) = faults(tree, checkers([tree]))
    assert fault in found


@pytest.mark.parametrize(
    "source",
    [
        "def fails(x):\n    with pytest.raises(E):\n        x()\ndef twice(x):\n    fails(x)\ndef test_a():\n    twice(f)",
        "def test_a():\n    assert f() or g()",
        "def test_a():\n    assert a.shape != b.shape or (a != b).any()",
        ROW + "def test_a(a):\n    assert (f(a) == 1) == (a == 2)",
        "def test_a():\n    assert draw() == draw()",
        "def test_a():\n    assert_close(f(x), f(x), rtol=0.1)",
    ],
)
def test_honest_asserts_are_not_called_weak(source: str) -> None:
    tree = ast.parse(source)
    assert faults(tree, checkers([tree])) == []
