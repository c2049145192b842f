"""Which code does a result depend on? Hashes of syntax trees, so that a reworded comment or docstring changes nothing.

A change of form that computes the same numbers, bit for bit, must not void recorded runs either. `equivalent.json` lists, for each set of modules
that a run's identity names, the hashes that recorded runs carry and a digest of today's code that was shown to be equal to it
(`mkdcls.engine.equivalence`; `make equivalent` writes the list). Code that is not listed stands for itself.
"""
from __future__ import annotations

import ast
import hashlib
import inspect
import json
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent.json")


def _tree(module: str) -> ast.Module:
    path = PACKAGE.parent / (module.replace(".", "/") + ".py")
    if not path.exists(): path = path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _strip(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    tree.body = [n for n in tree.body if not (isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__")]
    return tree


def dump(node) -> str:
    "`ast.dump` as Python 3.11 prints it, on every version: newer ones leave empty lists out and know fields that are empty in older code"
    if isinstance(node, list): return "[" + ", ".join(map(dump, node)) + "]"
    if not isinstance(node, ast.AST): return repr(node)
    values = [(n, getattr(node, n, None)) for n in node._fields]
    keep = [f"{n}={dump(v)}" for n, v in values if not (v is None and getattr(type(node), n, ...) is None) and not (n == "type_params" and not v)]
    return f"{type(node).__name__}({', '.join(keep)})"


def tree_hash(tree: ast.Module) -> str:
    "Twelve hexadecimal digits for a syntax tree, without docstrings, comments and `__all__`"
    return hashlib.sha256(dump(_strip(tree)).encode()).hexdigest()[:12]


@lru_cache
def module_hash(module: str) -> str:
    "`tree_hash` of a module of this package"
    return tree_hash(_tree(module))


@lru_cache
def imports(module: str) -> tuple[str, ...]:
    "The modules of this package that a module imports, anywhere in it"
    package = module.rsplit(".", 1)[0]
    found = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level: base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1] + ([base] if base else []))
            if base.split(".")[0] == PACKAGE.name:
                found.add(base)
                found |= {f"{base}.{a.name}" for a in node.names if (PACKAGE.parent / (base.replace(".", "/")) / f"{a.name}.py").exists()}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == PACKAGE.name}
    return tuple(sorted(found - {PACKAGE.name, f"{PACKAGE.name}.engine"}))


def code_now(*modules: str) -> dict[str, str]:
    "Hash of each module that these modules import, directly or not, and of themselves"
    todo, done = list(modules), {}
    while todo:
        if (m := todo.pop()) not in done:
            done[m] = module_hash(m)
            todo += imports(m)
    return dict(sorted(done.items()))


def source_now(thing) -> str:
    "`tree_hash` of a function or class"
    return tree_hash(ast.parse(inspect.getsource(thing)))


@lru_cache
def equivalents() -> dict:
    "The list of equivalent code: name → `now` (a digest) and `recorded` (what identities carry)"
    return json.loads(EQUIVALENT.read_text(encoding="utf-8"))["code"]


def short(hashes) -> str:
    "Twelve hexadecimal digits for hashes"
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]


def _recorded(name: str, now):
    entry = equivalents().get(name)
    return entry["recorded"] if entry and entry["now"] == short(now) else now


def code_hashes(*modules: str) -> dict[str, str]:
    "What stands for these modules, and for all they import, in an identity: `code_now`, or the recorded hashes that it is equivalent to"
    return dict(_recorded(" ".join(modules), code_now(*modules)))


def source_hash(thing) -> str:
    "What stands for a function or class in an identity: `source_now`, or the recorded hash that it is equivalent to"
    return _recorded(f"{thing.__module__}.{thing.__qualname__}", source_now(thing))
