"""Does this interpreter hold what the project needs? `python -m mkdcls.engine.needs [run|dev|site]`, with the standard
library only.

`make` asks before it uses an interpreter it did not set up itself (`make ... PYTHON=<interpreter>`). The list is
settings.ini's; nothing is installed. A missing package is an error; a version outside its range is a warning, for the
interpreter is used as it is.
"""
import configparser
import importlib
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout that this package lies in
REQUIREMENT_LISTS = {"run": ["requirements"], "dev": ["requirements", "dev_requirements", "peers_requirements"],
                     "site": ["site_requirements"]}  # pages are read, none is run


def settings(path: Path = ROOT / "settings.ini") -> configparser.SectionProxy:
    "The one section of settings.ini"
    cfg = configparser.ConfigParser(interpolation=None)
    if not cfg.read(path, encoding="utf-8"):
        raise ValueError(f"{path} is not there: run this from a checkout of mkdcls")
    return cfg["DEFAULT"]


def requirement(text: str) -> tuple[str, list[tuple[str, str]]]:
    "`'nbdev>=2.4,<3'` as `('nbdev', [('>=', '2.4'), ('<', '3')])`; the two forms settings.ini uses, and `==`"
    m = re.fullmatch(r"([A-Za-z0-9._-]+?)((?:(?:>=|<|==)[0-9.]+,?)*)", text)
    if not m: raise ValueError(f"requirement {text!r} is none of name, name>=1.2, name==1.2, name>=1.2,<2")
    return m[1], re.findall(r"(>=|<|==)([0-9.]+)", m[2])


def within(found: str, bounds: list[tuple[str, str]]) -> bool:
    "Is a version inside all bounds? Only its leading numbers count: 2.13.0+cpu is (2, 13, 0)"
    def release(v): return tuple(int(n) for n in re.match(r"[0-9.]*[0-9]", v)[0].split(".")) if v[:1].isdigit() else ()
    def pad(a, b): return a + (0,) * (len(b) - len(a)), b + (0,) * (len(a) - len(b))
    ok = {">=": lambda a, b: a >= b, "<": lambda a, b: a < b, "==": lambda a, b: a == b}
    return all(ok[op](*pad(release(found), release(b))) for op, b in bounds)


def check_packages(part: str = "run") -> tuple[list[str], list[str]]:
    "What is missing, and what is outside its range"
    cfg, missing, outside = settings(), [], []
    for text in [r for key in REQUIREMENT_LISTS[part] for r in cfg[key].split()]:
        name, bounds = requirement(text)
        try: found = version(name)
        except PackageNotFoundError: missing.append(text); continue
        if not within(found, bounds): outside.append(f"{name} {found} (wanted {text})")
    if not missing:
        for name in ("sphinx", "mathjax") if part == "site" else ("torch", "papermill"):  # there, but do they load?
            try: importlib.import_module(name)
            except Exception as e: missing.append(f"{name} (installed, but importing it fails: {e})")
    return missing, outside


def main(part: str = "run") -> int:
    if part not in REQUIREMENT_LISTS:
        print(f"mkdcls.engine.needs: {part!r} is none of {', '.join(REQUIREMENT_LISTS)}", file=sys.stderr); return 2
    least = tuple(int(n) for n in settings()["min_python"].split("."))
    if sys.version_info < least:
        print(f"{sys.executable} is Python {sys.version.split()[0]}; "
              f"mkdcls needs {'.'.join(map(str, least))} or newer.", file=sys.stderr)
        return 1
    missing, outside = check_packages(part)
    if outside:
        print(f"Note: {sys.executable} is used as it is, with versions never tried here: {', '.join(outside)}",
              file=sys.stderr)
    if not missing: return 0
    print(f"{sys.executable} lacks: {', '.join(missing)}\n"
          "PYTHON=<interpreter> is used as it is, nothing is installed into it. "
          "Install these there yourself (exact versions: "
          "constraints.txt), or leave PYTHON out: make then builds .venv.", file=sys.stderr)
    return 1


if __name__ == "__main__": sys.exit(main(*sys.argv[1:2]))
