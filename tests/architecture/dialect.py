"""Which names are public where, who uses them, and what breaks the rule: an underscore for what no `__all__` names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PACKAGE = "torchbcos"
Use = tuple[str, str]  # module, name

FROM = re.compile(rf"from ({PACKAGE}(?:\.\w+)*) import \(?([\w, \n]+)")
DOTTED = re.compile(rf"\b({PACKAGE}(?:\.\w+)*)[.:](\w+)")


def read(source: Path) -> dict[str, ast.Module]:
    """The syntax trees of all modules below `source`, the package's folder, by dotted name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(source).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))
    return found


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module's top level, also those below `if`, `try` and `with`."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)


def targets(node: ast.stmt) -> Iterator[ast.Name]:
    """The names that an assignment binds."""
    left = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in left:
        yield from (n for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def defined(tree: ast.Module) -> list[str]:
    """Functions, classes and constants that a module makes at its top level; what it imports is made elsewhere."""
    found: list[str] = []
    for node in statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append(node.name)
        found += [target.id for target in targets(node)]
    return list(dict.fromkeys(name for name in found if not re.fullmatch(r"__\w+__|_", name)))


def imported(tree: ast.Module) -> set[str]:
    """Names that a module's top level imports."""
    nodes = [node for node in statements(tree.body) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in node.names}


def declared(tree: ast.Module) -> list[str] | None:
    """What `__all__` lists; None where there is none, or a computed one."""
    for node in statements(tree.body):
        if any(target.id == "__all__" for target in targets(node)):
            value = getattr(node, "value", None)
            plain = isinstance(value, (ast.List, ast.Tuple)) and all(isinstance(e, ast.Constant) for e in value.elts)
            return [str(e.value) for e in value.elts] if plain else None  # type: ignore[union-attr]
    return None


def origin(use: Use, modules: Mapping[str, ast.Module]) -> Use:
    """Where a name was made that a module passes on, as a room's `__init__` does."""
    module, name = use
    for node in statements(modules[module].body):
        if isinstance(node, ast.ImportFrom) and node.module in modules and node.module != module:
            for alias in node.names:
                if (alias.asname or alias.name) == name and f"{node.module}.{alias.name}" not in modules:
                    return origin((node.module, alias.name), modules)
    return use


def aliases(tree: ast.Module, modules: Mapping[str, ast.Module]) -> dict[str, str]:
    """What a file calls our modules, however it imports them."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    found[alias.asname or PACKAGE] = alias.name if alias.asname else PACKAGE
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            inner = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            found |= {name: module for name, module in inner.items() if module in modules}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and node.value.args:  # importlib.import_module(…)
            word = node.value.args[0].value if isinstance(node.value.args[0], ast.Constant) else None
            found |= {target.id: str(word) for target in targets(node) if word in modules}
    return found


def uses(tree: ast.Module, modules: Mapping[str, ast.Module]) -> set[Use]:
    """Names of our modules that a file imports, or reaches as attributes of a module that it imported."""
    found, known = set[Use](), aliases(tree, modules)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            found |= {(node.module, alias.name) for alias in node.names}
        if isinstance(node, ast.Attribute) and (place := reached(node.value, known, modules)):
            found.add((place, node.attr))
    return {use for use in found if f"{use[0]}.{use[1]}" not in modules}


def reached(node: ast.expr, known: Mapping[str, str], modules: Mapping[str, ast.Module]) -> str | None:
    """The module that an expression such as `torchbcos.nn` means."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and (outer := reached(node.value, known, modules)):
        return f"{outer}.{node.attr}" if f"{outer}.{node.attr}" in modules else None
    return None


def mentions(text: str, modules: Mapping[str, ast.Module]) -> set[Use]:
    """Names of our modules in any text: in code that a test hands to another interpreter, in pages, in pyproject."""
    found = {(m.group(1), m.group(2)) for m in DOTTED.finditer(text)}
    for match in FROM.finditer(text):
        found |= {(match.group(1), part.split()[0]) for part in match.group(2).split(",") if part.strip()}
    return {(m, n) for m, n in found if m in modules and f"{m}.{n}" not in modules}


def patched(tree: ast.Module, modules: Mapping[str, ast.Module]) -> set[Use]:
    """Names that a test may reach in a module that it imports: `monkeypatch.setattr(module, "name", …)`, `one_of_them.name`."""
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    words |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}  # of a module that a loop runs over
    near = {*aliases(tree, modules).values(), *(module for module, _ in uses(tree, modules))}
    return {(module, name) for module in near for name in defined(modules[module]) if name in words}


def used_elsewhere(modules: Mapping[str, ast.Module], code: Iterable[str], pages: Iterable[str] = ()) -> set[Use]:
    """Names that others than their own module use, each where it was made.

    Args:
        modules: ours, from `read`.
        code: texts of other Python files: tests, recipes, benchmarks.
        pages: other texts.
    """
    found: set[Use] = set()
    for name, tree in modules.items():
        found |= {use for use in uses(tree, modules) if use[0] != name}
        words = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        found |= {use for word in words for use in mentions(word, modules) if use[0] != name}
    door = modules[PACKAGE]
    for table in (n for n in ast.walk(door) if isinstance(n, ast.Dict)):  # name -> the module that defines it
        pairs = zip(table.keys, table.values, strict=True)
        found |= {(v.value, k.value) for k, v in pairs if isinstance(k, ast.Constant) and isinstance(v, ast.Constant)}
    for text in code:
        tree = ast.parse(text)
        found |= uses(tree, modules) | mentions(text, modules) | patched(tree, modules)
    for text in pages:
        found |= mentions(text, modules)
    return {origin(use, modules) for use in found if use[0] in modules}


def faults(modules: Mapping[str, ast.Module]) -> list[str]:
    """What breaks the rule, in words."""
    found = []
    for name, tree in modules.items():
        made, listed = defined(tree), declared(tree)
        if name != PACKAGE:  # the door computes its list; tests/architecture/test_door.py pins it
            found += [
                f"{name}: {n} has no underscore and is not in __all__" for n in made if n[0] != "_" and n not in (listed or ())
            ]
            known = {*made, *imported(tree)}
            found += [f"{name}: __all__ names {n}, which is not there" for n in listed or () if n not in known]
            found += [f"{name}: __all__ names {n}" for n in listed or () if n[0] == "_"]
        for module, used in sorted(uses(tree, modules)):
            if module not in (name, PACKAGE) and used not in (declared(modules[module]) or ()) and not used.startswith("__"):
                found.append(f"{name} takes {used} from {module}, whose __all__ lacks it")
    return found
