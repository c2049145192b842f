"""Which code does a result depend on? Hashes of syntax trees, so that a reworded comment or docstring changes nothing."""
from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


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


def code_hashes(*modules: str) -> dict[str, str]:
    "Hash of each module that these modules import, directly or not, and of themselves"
    todo, done = list(modules), {}
    while todo:
        if (m := todo.pop()) not in done:
            done[m] = module_hash(m)
            todo += imports(m)
    return dict(sorted(done.items()))
