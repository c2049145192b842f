"""README.md and paper/results/README.md from their pages in nbs: `python -m mkdcls.results.readme [--check]`.

A page is executed, so that its tables are those of the committed records, then turned to markdown: a cell marked
`#| hide` leaves nothing, one marked `#| echo: false` leaves its output only, links are rewritten to start where the
text will lie. `--check` writes nothing and fails when a text or the outputs stored in its page are not what this gives.
"""
import argparse
import os
import re
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import Preprocessor
from traitlets.config import Config

from mkdcls.engine.needs import ROOT

PAGES = {"README.md": "nbs/index.ipynb", "paper/results/README.md": "nbs/all_results.ipynb"}  # text → its page
LIMITS = {"README.md": 10_000}  # bytes: the front page is read in five minutes
FENCE = re.compile(r"^ {0,3}(```|~~~)")
LINK = re.compile(r"""(?P<before>\]\(\s*<?|\b(?:src|href)=["'])(?P<to>[^)\s"'>]+)""")


def directives(source: str) -> dict[str, str]:
    "The `#| key: value` lines at the head of a code cell"
    found = {}
    for line in source.splitlines():
        if not line.startswith("#|"): break
        key, _, value = line[2:].partition(":")
        found[key.strip()] = value.strip()
    return found


class Shown(Preprocessor):
    "Keep what a reader of README.md should see"
    def preprocess(self, nb, resources):
        cells = []
        for cell in nb.cells:
            marks = directives(cell.source) if cell.cell_type == "code" else {}
            if "hide" in marks: continue
            if marks.get("echo") == "false": cell.metadata["transient"] = {"remove_source": True}
            cell.source = "\n".join(l for l in cell.source.splitlines()
                                    if not (cell.cell_type == "code" and l.startswith("#|")))
            for out in cell.get("outputs", []):
                if any(kind.startswith("image/") for kind in out.get("data", {})):
                    raise ValueError(f"a cell ends in a picture ({cell.source[:60]!r}); markdown cannot hold it. "
                                     "Save the file under paper/ and link it from a markdown cell")
            cells.append(cell)
        nb.cells = cells
        nb.metadata["language_info"] = {"name": "python"}  # a run writes it, nbdev_clean drops it
        return nb, resources


def relink(
    markdown: str,  # text whose relative links start in `folder`
    folder: str = "nbs",  # where the text was written, relative to the top folder
    into: str = "",  # where it will lie, likewise
) -> str:  # the same text with links that start there; code fences, anchors and web addresses are left alone
    "Relative links as another folder sees them"
    def fix(m):
        to = m["to"]
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|#|/", to): return m[0]
        path, mark, rest = re.match(r"([^#?]*)([#?]?)(.*)", to, re.S).groups()
        slash = "/" if path.endswith("/") else ""
        return m["before"] + Path(os.path.relpath(f"{folder}/{path}", into or ".")).as_posix() + slash + mark + rest
    lines, fence = [], None
    for line in markdown.splitlines():
        m = FENCE.match(line)
        if m and fence in (None, m[1]): fence = None if fence else m[1]
        elif not fence: line = LINK.sub(fix, line)
        lines.append(line)
    return "\n".join(lines)


def render_page(nb: nbformat.NotebookNode, text: str = "README.md") -> str:
    "The notebook as markdown that will lie at `text`, from the outputs it holds"
    config = Config()
    config.NbConvertBase.display_data_priority = ["text/markdown", "text/html", "text/plain"]
    body, _ = MarkdownExporter(preprocessors=[Shown], config=config).from_notebook_node(nb)
    note = f"<!-- Written by `make readme` from {PAGES[text]}: change it there. -->"
    return note + "\n\n" + re.sub(r"\n{3,}", "\n\n", relink(body, into=os.path.dirname(text))).strip() + "\n"


def execute(nb: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    "A copy of the notebook with fresh outputs"
    from nbclient import NotebookClient
    return NotebookClient(deepcopy(nb), timeout=600, kernel_name="python3", record_timing=False,
                          resources={"metadata": {"path": str(folder)}},
                          extra_arguments=["--IPKernelApp.log_level=ERROR"]).execute()


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    ap = argparse.ArgumentParser(prog="python -m mkdcls.results.readme",
                                 description="README.md and paper/results/README.md from their pages")
    ap.add_argument("--check", action="store_true", help="write nothing; fail when a text is not what its page gives")
    args, stale = ap.parse_args(argv), []
    for name, source in PAGES.items():
        page, readme = root / source, root / name
        nb = nbformat.read(page, 4)
        fresh = execute(nb, page.parent)
        text = render_page(fresh, name)
        if (size := len(text.encode())) > LIMITS.get(name, size):
            raise ValueError(f"{name} would have {size:,} bytes, more than {LIMITS[name]:,}: shorten {source}")
        if args.check:
            stale += [f for f, kept in ((name, readme.read_text("utf-8") if readme.exists() else ""),
                                        (source, render_page(nb, name))) if kept != text]
            continue
        from nbdev.clean import nbdev_clean
        nbformat.write(fresh, page)
        nbdev_clean(str(page))
        readme.write_text(text, "utf-8")
        print(f"{name}: {size:,} bytes from {source}")
    if stale:
        print(f"{' and '.join(stale)}: not what the pages give when run now; run `make readme` and commit all of them",
              file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__": sys.exit(main())
