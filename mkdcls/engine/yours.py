"""What is yours in one file: encoders, tasks, losses and rows that a run finds without touching this package.

    Runner("smoke", yours="mine.py")        make table1 YOURS=mine.py

The file is read by every process that works on a run, so what it registers is there in worker processes too. A run's
key holds what its row uses of the file and nothing else: the source of each registered function, of whatever else in
the file it names, and the hashes of this package's modules that it imports. To make that true, the file may hold
imports, functions, classes, constants and calls of `register_...`, and nothing that acts while it is read.
"""
from __future__ import annotations

import ast
import copy
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from mkdcls.engine.codehash import PACKAGE, code_now, short, tree_hash, unchanged

# names that the package's own pages use, of networks, heads and losses; the tests compare
TAKEN = dict(encoder=("ecapa", "resnet"), task=("gender", "agesup", "agesub"), loss=("ce", "asl", "asl_official"))
# a task's name becomes the name of columns; these stand in the same tables
COLUMNS_TAKEN = ("utterance", "speaker", "corpus", "row", "seed", "knobs", "dist", "dep", "total", "epoch", "lr",
                 "seconds", "key", "encoder", "dataset", "method", "preset", "protocol", "data", "code", "recipe",
                 "parents", "commit", "device", "python", "versions", "finished", "params", "against", "yours", "true",
                 "y")
HERE = ("write it into a file, say mine.py, and give that: Runner(..., yours='mine.py'), "
        "or make table1 YOURS=mine.py")


@dataclass(frozen=True)
class Entry:
    "One registered thing"
    kind: str  # 'encoder', 'task', 'loss' or 'row'
    name: str
    made: Callable | None = None  # function or class of the file; None for tasks and rows
    about: dict = field(default_factory=dict)  # what a key knows of it: source, classes, column, ...


# ---- what a file calls

_open: list[list] = []  # the entries of the file that is being read


def _register(kind: str, name: str, made=None, **about):
    if not _open:
        raise ValueError(f"register_{kind}({name!r}) outside a file of yours: worker processes and keys know files, "
                         f"not cells; {HERE}")
    pattern = "[A-Za-z][A-Za-z0-9]*" if kind == "task" else "[A-Za-z0-9][A-Za-z0-9_]*"
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        raise ValueError(f"register_{kind}({name!r}): a name is letters and digits")
    if name in TAKEN.get(kind, ()) or (kind == "task" and name in COLUMNS_TAKEN):
        raise ValueError(f"register_{kind}({name!r}): the package has that name already; choose another")
    _open[-1].append(Entry(kind, name, made, about))
    return made


def register_encoder(name: str, build: Callable | None = None):
    """A network: `build(size, scale)` gives an `nn.Module` with `pooled_dim` and `embed_dim`, whose
    `forward(x, n_frames)` returns an `EncoderOutput`

    `size` is 'teacher' or 'student', `scale` the preset's widths ('smoke', 'laptop' or 'paper'). Use it as a row's
    `family`. Without `build`: a decorator.
    """
    return (lambda made: _register("encoder", name, made)) if build is None else _register("encoder", name, build)


def register_loss(name: str, function: Callable | None = None):
    """A loss: `function(logits, y)` gives one value for each utterance, `[B, K]` and `[B]` → `[B]`, nats

    Use it in a row's `losses`, task → name, or as the loss of a task. Without `function`: a decorator.
    """
    return (lambda made: _register("loss", name, made)) if function is None else _register("loss", name, function)


def register_task(name: str, classes, column: str | None = None, loss: str = "ce"):
    "A head: the names of its classes, the manifest's column that holds them (default: its name), and its loss"
    if isinstance(classes, str) or len(names := [str(c) for c in classes]) < 2 or len(set(names)) < len(names):
        raise ValueError(f"register_task({name!r}): classes={classes!r}; give two or more names, each once")
    _register("task", name, classes=names, column=column or name, loss=loss)


def register_row(name: str, like: str, against: str | None = None, **changes):
    """A row: that of `like` with some fields of its recipe, objective or settings changed; `against` is the row that
    its gain is taken over (default: `like`)"""
    _register("row", name, like=like, against=against or like, changes=changes)


# ---- reading a file

def _called(node) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""


def _defined(node) -> list[str]:
    "Names that a statement at the top of a file defines; None where it does something else"
    if isinstance(node, ast.FunctionDef | ast.ClassDef): return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom): return [a.asname or a.name.split(".")[0] for a in node.names]
    one = [node.target] if isinstance(node, ast.AnnAssign) else [None]
    targets = node.targets if isinstance(node, ast.Assign) else one
    names = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return [n.id for n in names] if all(isinstance(n, ast.Name) for n in names) else None


class Source:
    "A file of yours as a syntax tree, and the hash of a part of it"

    def __init__(self, file: Path):
        self.file = file
        try: self.text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as e:
            raise ValueError(f"yours={str(file)!r} cannot be read ({getattr(e, 'strerror', None) or e}): "
                             "give the path of a Python file") from e
        try: self.tree = ast.parse(self.text)
        except SyntaxError as e: raise ValueError(f"{file.name}, line {e.lineno}: {e.msg}") from e
        self.top = {}
        for node in self.tree.body: self._look_at(node)

    def _look_at(self, node):
        if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant)
                                           or _called(node.value).startswith("register_")): return
        wrong = lambda why: ValueError(f"{self.file.name}, line {node.lineno}: {why}")
        if (names := _defined(node)) is None:
            raise wrong("a file of yours holds imports, functions, classes, constants and register_... calls; "
                        "put what acts into a function")
        for name in names:
            if name in self.top: raise wrong(f"{name} is defined twice")
            if name == "*": raise wrong("import names one by one: a key must know what is used")
            self.top[name] = node
        for module in self._modules(node):
            beside = self.file.parent / module.split(".")[0]
            there = beside.name != PACKAGE.name and any(beside.with_suffix(s).exists() for s in (".py", ""))
            if there or module[0] == ".":
                raise wrong(f"imports {module}, which lies beside it: its code would enter no key; "
                            "move it into this file")

    @staticmethod
    def _modules(node) -> list[str]:
        if isinstance(node, ast.ImportFrom): return ["." * node.level + (node.module or "")]
        return [a.name for a in node.names] if isinstance(node, ast.Import) else []

    def hash(self, name: str) -> str:
        "Of a function or class, of what else in the file it names, and of the package's modules that these import"
        todo, seen = [name], {}
        while todo:
            if (n := todo.pop()) in seen: continue
            node = seen[n] = copy.deepcopy(self.top[n])
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                node.decorator_list = [d for d in node.decorator_list if not _called(d).startswith("register_")]
            todo += sorted({m.id for m in ast.walk(node) if isinstance(m, ast.Name) and m.id in self.top})
        ours = sorted({m for node in seen.values() for m in self._modules(node) if m.split(".")[0] == PACKAGE.name})
        trees = {n: tree_hash(ast.Module([node], [])) for n, node in seen.items()}
        return short([trees, code_now(*ours)])


@contextmanager
def _reading():
    _open.append([])
    try: yield _open[-1]
    finally: _open.pop()


class Yours:
    "What a file registered; nothing where there is no file"

    def __init__(self, file: str | Path = ""):
        self.file = str(Path(file).expanduser().resolve()) if file else ""
        self.encoders, self.tasks, self.losses, self.rows = {}, {}, {}, {}
        if not self.file: return
        self.source, self.module = Source(Path(self.file)), f"yours_{sha256(self.file.encode()).hexdigest()[:8]}"
        made = sys.modules[self.module] = ModuleType(self.module)
        made.__file__ = self.file
        with _reading() as found:
            try: exec(compile(self.source.text, self.file, "exec"), made.__dict__)
            except ValueError as e: raise ValueError(f"{Path(self.file).name}: {e}") from e
        for e in found: self._take(self._whole(e))
        for t in self.tasks.values(): self._loss(t.about["loss"], f"task {t.name!r}")

    def _whole(self, e: Entry) -> Entry:
        "An entry with the hash of its source"
        if e.kind in ("task", "row"): return e
        name = getattr(e.made, "__name__", "")
        if getattr(sys.modules[self.module], name, None) is not e.made or name not in self.source.top:
            raise ValueError(f"register_{e.kind}({e.name!r}): give a function or class that {Path(self.file).name} "
                             "defines at its top, not a lambda and nothing imported: its source enters the key")
        return Entry(e.kind, e.name, e.made, dict(source=self.source.hash(name)))

    def _take(self, e: Entry):
        table = getattr(self, {"loss": "losses"}.get(e.kind, f"{e.kind}s"))
        if e.name in table and table[e.name].about != e.about:
            raise ValueError(f"{Path(self.file).name}: {e.kind} {e.name!r} is registered twice, with another source; "
                             "give one of them another name")
        table[e.name] = e

    def _loss(self, name: str, of: str):
        if name not in ("ce", "asl") and name not in self.losses:
            raise ValueError(f"{of}: no loss {name!r}; 'ce', 'asl' or one of your file "
                             f"({', '.join(self.losses) or 'it registers none'})")

    # ---- what a row uses of it

    def used(self, r) -> dict[str, dict]:
        "What of this the recipe `r` uses, as its key holds it; empty where nothing"
        found = [self.encoders[r.family]] if r.family in self.encoders else []
        for task in r.tasks:
            if task in self.tasks: found.append(self.tasks[task])
            elif task not in TAKEN["task"]:
                raise ValueError(f"row {r.row!r}: no task {task!r}; register_task({task!r}, classes, column) it, "
                                 f"and {HERE}")
        for task, loss in r.losses:
            if task not in r.tasks:
                raise ValueError(f"row {r.row!r}: a loss for the task {task!r}, which it has not; it has {r.tasks}")
            self._loss(loss, f"row {r.row!r}, task {task!r}")
        names = {loss for _, loss in r.losses} | {t.about["loss"] for t in found if t.kind == "task"}
        found += [self.losses[n] for n in sorted(names) if n in self.losses]
        return {f"{e.kind} {e.name}": dict(e.about) for e in found}

    def heads(self, r) -> dict[str, Entry]:
        "The tasks of yours that a recipe has, in its order"
        return {t: self.tasks[t] for t in r.tasks if t in self.tasks}

    def encoder(self, name: str, size: str, scale: str) -> nn.Module:
        "A network of yours, with weights from torch's global generator; an error where it does not keep its word"
        net = self.encoders[name].made(size, scale)
        wrong = lambda why: ValueError(f"encoder {name!r} ({size}, {scale}) {why}")
        if not isinstance(net, nn.Module): raise wrong(f"gave {type(net).__name__}, no nn.Module")
        for width in ("pooled_dim", "embed_dim"):
            if not isinstance(getattr(net, width, None), int): raise wrong(f"has no {width}, a whole number")
        net.eval()
        try:
            with torch.no_grad(): out = net(torch.zeros(2, 60, 80), torch.tensor([60, 40]))
        except (RuntimeError, TypeError, ValueError, IndexError) as e:
            raise wrong(f"cannot read x [2, 60, 80] with n_frames [2]: {e}") from e
        if getattr(out, "_fields", ()) != ("pooled", "embedding"):
            raise wrong(f"returned {type(out).__name__}, no EncoderOutput(pooled, embedding)")
        for part, width in zip(out, (net.pooled_dim, net.embed_dim)):
            if tuple(part.shape) != (2, width):
                raise wrong(f"says pooled_dim={net.pooled_dim}, embed_dim={net.embed_dim} and gave "
                            f"{[list(v.shape) for v in out]} for two utterances")
        return net.train()

    def loss(self, name: str) -> Callable:
        "A loss of yours: (logits, y) → one value an utterance; an error where it gives anything else"
        def one_each(logits, y):
            value = self.losses[name].made(logits, y)
            if getattr(value, "shape", None) != y.shape:
                given = list(getattr(value, "shape", [type(value).__name__]))
                raise ValueError(f"loss {name!r} gave {given} for {len(y)} utterances; "
                                 f"give one value each, [{len(y)}]: no mean, no sum")
            return value
        return one_each

    def as_written(self):
        "An error where what is loaded is not what the file holds"
        if not self.file: return
        name = Path(self.file).name
        now = Path(self.file).read_text(encoding="utf-8") if Path(self.file).is_file() else ""
        if tree_hash(ast.parse(now)) != tree_hash(ast.parse(self.source.text)):
            raise ValueError(f"{name} was edited after it was read: make the runner again")
        with _reading(): wrong = unchanged(self.module)
        patched = [e.name for t in (self.encoders, self.losses) for e in t.values()
                   if vars(sys.modules[self.module]).get(e.made.__name__) is not e.made]
        if wrong or patched:
            raise ValueError(f"{wrong.split('.')[-1] or patched[0]} is not what {name} defines: something was put in "
                             "its place. A run is known by its file, so change that")


NOTHING = Yours()  # where there is no file
