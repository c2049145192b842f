"""Which code does a result depend on? Hashes of syntax trees, so that a reworded comment or docstring changes nothing.

A change of form that computes the same numbers, bit for bit, must not void recorded runs either. `equivalent.json`
lists, for each set of modules that a run's identity names, the hashes that recorded runs carry and a digest of today's
code that was shown to be equal to it (`mkdcls.engine.equivalence`; `make equivalent` writes the list). Code that is not
listed stands for itself.
"""
from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

PACKAGE = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent.json")


def _tree(module: str) -> ast.Module:
    path = PACKAGE.parent / (module.replace(".", "/") + ".py")
    if not path.exists(): path = path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def without_docstrings(tree: ast.Module) -> ast.Module:
    "The tree without what changes no result: docstrings and `__all__` (it is changed in place)"
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value,
                                                          ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    tree.body = [n for n in tree.body
                 if not (isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__")]
    return tree


def dump(node) -> str:
    """`ast.dump` as Python 3.11 prints it, on every version: newer ones leave empty lists out and know fields that
    are empty in older code"""
    if isinstance(node, list): return "[" + ", ".join(map(dump, node)) + "]"
    if not isinstance(node, ast.AST): return repr(node)
    values = [(n, getattr(node, n, None)) for n in node._fields]
    keep = [f"{n}={dump(v)}" for n, v in values if not (v is None and getattr(type(node), n, ...) is None)
            and not (n == "type_params" and not v)]
    return f"{type(node).__name__}({', '.join(keep)})"


def tree_hash(tree: ast.Module) -> str:
    "Twelve hexadecimal digits for a syntax tree, without docstrings, comments and `__all__`"
    return hashlib.sha256(dump(without_docstrings(tree)).encode()).hexdigest()[:12]


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
            if node.level:
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]
                                + ([base] if base else []))
            if base.split(".")[0] == PACKAGE.name:
                found.add(base)
                found |= {f"{base}.{a.name}" for a in node.names
                          if (PACKAGE.parent / (base.replace(".", "/")) / f"{a.name}.py").exists()}
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
    """What stands for these modules, and for all they import, in an identity: `code_now`, or the recorded hashes
    that it is equivalent to"""
    return dict(_recorded(" ".join(modules), code_now(*modules)))


def source_hash(thing) -> str:
    "What stands for a function or class in an identity: `source_now`, or the recorded hash that it is equivalent to"
    return _recorded(f"{thing.__module__}.{thing.__qualname__}", source_now(thing))


# ---- is what is loaded what the files define?

_fresh = {}  # module → (time of change of its file, its names as a fresh run of the file defines them)


def _defined(module: str) -> dict:
    path = Path(sys.modules[module].__file__)
    at = path.stat().st_mtime_ns, path.stat().st_size
    if _fresh.get(module, (None,))[0] != at:
        new = ModuleType(module)
        new.__dict__.update(__file__=str(path), __package__=sys.modules[module].__package__)
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), new.__dict__)
        _fresh[module] = at, {k: v for k, v in new.__dict__.items() if not k.startswith("__")}
    return _fresh[module][1]


def _code(c: CodeType) -> tuple:
    "What a code object does, wherever its lines stand"
    return (c.co_code, c.co_names, c.co_varnames, c.co_freevars, c.co_cellvars, c.co_argcount, c.co_kwonlyargcount,
            tuple(_code(k) if isinstance(k, CodeType) else (type(k).__name__, repr(k)) for k in c.co_consts))


def _equal(a, b, module: str, depth: int = 0) -> bool:
    """Do two definitions say the same? Code by what it does, data by value

    What comes from elsewhere must be the same thing.
    """
    if a is b or depth > 6: return True
    if type(a).__name__ != type(b).__name__: return False
    if isinstance(a, FunctionType):
        if a.__module__ != b.__module__: return False
        return _code(a.__code__) == _code(b.__code__) and all(_equal(x, y, module, depth + 1)
                                                              for n in ("__defaults__", "__kwdefaults__", "__wrapped__")
                                                            if (x := getattr(a, n, None)) is not None
                                                              or getattr(b, n, None) is not None
                                                            for y in [getattr(b, n, None)])
    if isinstance(a, staticmethod | classmethod): return _equal(a.__func__, b.__func__, module, depth + 1)
    if isinstance(a, property):
        return all(_equal(getattr(a, n), getattr(b, n), module, depth + 1) for n in ("fget", "fset", "fdel"))
    if isinstance(a, type):
        if a.__module__ != module or b.__module__ != module: return False
        own = {k: v
               for k, v in vars(b).items() if isinstance(v, FunctionType | staticmethod | classmethod | property | int
                                                         | float | str | tuple) and k != "__module__"
               and k not in ("__doc__", "__firstlineno__", "__static_attributes__")}
        more = [k for k, v in vars(a).items() if isinstance(v, FunctionType) and k not in vars(b)]
        return not more and all(k in vars(a) and _equal(vars(a)[k], v, module, depth + 1) for k, v in own.items())
    if isinstance(a, dict): return list(a) == list(b) and all(_equal(a[k], b[k], module, depth + 1) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_equal(x, y, module, depth + 1) for x, y in zip(a, b))
    if isinstance(a, bool | int | float | complex | str | bytes | set | frozenset | None):
        return a == b or (a != a and b != b)
    return True  # arrays, handles, instances: made anew each time


def unchanged(*modules: str) -> str:
    """The first name in these modules, as loaded, that is not what their files define; empty where there is none.

    A key is made from files. A function put in another's place, a class added to a table, or a file edited after it was
    imported would otherwise give a run the key of code that did not make it.
    """
    for module in modules:
        if (live := sys.modules.get(module)) is None or not getattr(live, "__file__", None): continue
        for name, want in _defined(module).items():
            # what a module keeps while it works
            if name.startswith("_") and name.islower() and isinstance(want, dict | list | set): continue
            if name not in vars(live) or not _equal(vars(live)[name], want, module): return f"{module}.{name}"
    return ""
