"""The article and the poster: `python -m mkdcls.publish.article article|poster` (`make paper`, `make poster`).

Typst sources in paper/article and paper/poster, values and tables from `mkdcls.publish.values`, figures from
`mkdcls.publish.drawings`. Everything is typeset in a folder of its own that is gone afterwards; no network, no font of
the machine, no date: the same records give the same bytes.
"""
from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

from mkdcls.engine.needs import ROOT
from mkdcls.engine.store import write_text
from mkdcls.publish.drawings import figures, save_svg
from mkdcls.publish.named import PAPER
from mkdcls.publish.values import collect_values

SOURCES, VALUES = Path("paper", "article"), Path("paper", "article", "values.json")
PDF_OF = {"article": Path("paper", "mkdcls.pdf"), "poster": Path("paper", "poster.pdf")}  # what → its PDF
MAIN = {"article": "main.typ", "poster": "poster.typ"}  # what → the source that Typst starts from
LACKING = ("typst is not installed: it comes with the extra `paper` (pip install -c constraints.txt -e '.[paper]', "
           "or make setup-dev)")


def typesetter():
    "The Typst compiler, or one line on how to get it"
    try: import typst
    except ImportError: raise SystemExit(LACKING) from None
    return typst


def lay_out(folder: Path, top: Path = PAPER) -> Path:
    "Sources, values and figures in one folder, as Typst wants them"
    folder = Path(folder)
    shutil.copytree(ROOT / SOURCES, folder, dirs_exist_ok=True)
    values, drawn = collect_values(top), figures(top)
    (folder / VALUES.name).write_text(values.as_json(), "utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    for name, fig in drawn.items(): save_svg(fig, folder / "figures" / f"{name}.svg")
    return folder


def typeset(folder: Path, what: str = "article", **how):
    "The laid-out sources as PDF, or with format='png' as a list of pages, in bytes"
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"  # DejaVu Sans, for the poster; the article's come with Typst
    return typesetter().compile(str(Path(folder) / MAIN[what]), root=str(folder), font_paths=[str(fonts)],
                                ignore_system_fonts=True, **how)


def publish_pdf(what: str, top: Path = PAPER) -> Path:
    "Typeset the article or the poster into paper/, and leave the values that it was made from"
    typesetter()
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), top)
        done = typeset(Path(folder), what)
        write_text(ROOT / VALUES, (Path(folder) / VALUES.name).read_text("utf-8"))
    (ROOT / PDF_OF[what]).write_bytes(done)
    return ROOT / PDF_OF[what]


def main(what: str = "article") -> int:
    if what not in PDF_OF:
        print(f"mkdcls.publish.article: {what!r} is none of {', '.join(PDF_OF)}", file=sys.stderr)
        return 2
    path = publish_pdf(what)
    print(f"{path.relative_to(ROOT)}, {path.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__": sys.exit(main(*sys.argv[1:2]))
