"""What Sphinx reads: pages of the site in reading order, as notebooks and markdown, from the checkout's own files.

Directives are taken out, tags become folds, links lead to where the site has the thing, pictures and sounds get a name,
the glossary learns where its words are used, and pages written by hand get their numbers from the records.
"""
from __future__ import annotations

import csv
import html
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from mkdcls.engine.needs import ROOT, settings
from mkdcls.publish import api, home
from mkdcls.publish.named import count_word
from mkdcls.publish.second import REMEDY_NAMES
from mkdcls.results.remedies_sheet import REMEDIES_TABLE, least_lost, shortcut_in_short

FOLDER = Path(__file__).parent
# the list of sheets, in its order, without loading what they need
SHEET_NAMES = re.findall(r'^    Sheet\("([a-z0-9_]+)"', (FOLDER.parent / "results/sheets.py").read_text("utf-8"), re.M)
CORPORA = {"standin-laptop": "stand-in", "real-laptop": "real speech"}
MADE_SLIDES = Path("_course/slides")  # of `make slides`, taken along where they are
BENCHMARKS = ("benchmark", "benchmark_corpora", "benchmark_verification")
FOLDS = {"setup": "Set-up: imports and helpers", "how-it-fails": "How it fails: calls that are refused",
         "hide-input": "The code behind this"}  # tag → what the folded cell says
EQUATION_PAGES = {"1": "nbs/method/04_mixup.ipynb", "2": "nbs/method/06_distillation.ipynb",
             "3": "nbs/method/10_objective.ipynb", "4": "nbs/method/07_asymmetric_loss.ipynb",
             "5": "nbs/method/08_dependency_loss.ipynb"}
# words of the glossary that everybody uses: the first mention on a page leads nowhere
COMMON = {"seed", "fold", "chance", "status", "mechanism", "row", "recipe", "conflict", "trial", "chain", "dial",
          "key", "target"}
LINKED = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()\s*(?:<([^>]*)>|([^)\s]+))([^)]*\))")
CODE_PARTS = re.compile(r"(```.*?```|~~~.*?~~~|`[^`\n]*`)", re.S)


@dataclass
class Page:
    "A page of the site"
    source: Path  # file of the checkout, relative to its top
    doc: str  # where it lies on the site, without .html
    title: str
    section: str  # of the list at the left
    label: str = ""  # its name in that list; the title if empty


# ---- what there is, in reading order

@cache
def notebook(path: Path) -> dict: return json.loads(path.read_text("utf-8"))
def words_in(cell: dict) -> str: return "".join(cell["source"])


def title_of(path: Path) -> str:
    "The first heading of a notebook or of a markdown file"
    text = path.read_text("utf-8") if path.suffix == ".md" else "\n".join(
        words_in(c) for c in notebook(path)["cells"] if c["cell_type"] == "markdown")
    found = re.search(r"^# (.+?)\s*$", text, re.M)
    return re.sub(r"[`*]|\$", "", found[1]) if found else path.stem


def group_of(name: str) -> str:
    "The part of the method that a page's number belongs to"
    number = int(re.match(r"\d+", name)[0])
    return ("Speech and corpora" if number < 3 else "The method" if number < 13 else "Runs, causes, use" if number < 20
            else "Two earlier papers")


def site_pages(root: Path = ROOT) -> list[Page]:
    "Every page, in the order in which previous and next lead"
    nbs, found = root / "nbs", []

    def add(path: str | Path, section: str, label: str = "", doc: str = ""):
        path = Path(path)
        if not (root / path).exists(): return
        at = title_of(root / path) if path.suffix in (".md", ".ipynb") else label
        found.append(Page(path, doc or path.with_suffix("").as_posix(), at, section, label))

    def own(name: str, section: str, label: str = ""):
        add((FOLDER / "pages" / f"{name}.md").relative_to(root), section, label, name)

    own("index", "Start", "Home")
    add("nbs/index.ipynb", "Start", "The project in ten minutes")
    add("nbs/00_tour.ipynb", "Start", "Tour")
    own("live", "Start")
    add("nbs/glossary.ipynb", "Start")
    add("nbs/course/README.md", "Course", "The course")
    for p in sorted((nbs / "course/student").glob("[0-9]*.ipynb")): add(p.relative_to(root), "Course")
    for folder in ("method", "verification"):
        for p in sorted((nbs / folder).glob("[0-9]*.ipynb")):
            add(p.relative_to(root), group_of(p.stem), f"{p.stem.split('_')[0]} {title_of(p)}")
    add("paper/results/README.md", "Results", "All results")
    for folder, corpus in CORPORA.items():
        for sheet in SHEET_NAMES:
            at = Path("paper/results", folder, f"{sheet}.ipynb")
            add(at, "Results", f"{title_of(root / at).split(':')[0]} ({corpus})" if (root / at).exists() else "")
    for name in BENCHMARKS: add(f"paper/benchmarks/{name}.ipynb", "Results")
    found.append(Page(Path("paper/published"), "paper/published/index", "The papers' printed tables", "Results"))
    for name in ("protocol", "protocol2", "reproducibility", "data_card"): add(f"paper/{name}.md", "Results")
    add("mkdcls/models/standin-ecapa/README.md", "Results", "Model card")
    add("nbs/own_data.ipynb", "Use it", "Bring your own corpus")
    own("cluster", "Use it", "Reproduce on a cluster")
    own("faq", "Use it", "Questions and answers")
    own("cite", "Use it", "How to cite")
    add("CONTRIBUTING.md", "Use it"); add("CHANGELOG.md", "Use it")
    for p in sorted((nbs / "answers").glob("*.ipynb")):
        add(p.relative_to(root), "Answers", f"{p.stem.split('_')[0]} {title_of(p)}")
    found.append(Page(Path("mkdcls/__init__.py"), "mkdcls/index", "Package mkdcls", "Reference", "All modules"))
    for p in sorted((root / "mkdcls").rglob("*.py"), key=lambda p: (len(p.parts), p)):
        at = p.relative_to(root)
        if p.stem.startswith("_") or at.parts[1] == "models": continue
        dotted = ".".join(at.with_suffix("").parts)
        found.append(Page(at, at.with_suffix("").as_posix(), dotted, "Reference", dotted.removeprefix("mkdcls.")))
    return found


# ---- links

class Links:
    "Where a link of the checkout leads on the site"

    def __init__(self, pages: list[Page], root: Path, stage: Path):
        self.root, self.stage = root, stage
        self.pages = {p.source.as_posix(): p for p in pages}
        by_doc = {p.doc: p for p in pages}
        also = {"README.md": "index", "nbs/all_results.ipynb": "paper/results/README", "CITATION.cff": "cite",
                "mkdcls": "mkdcls/index", "nbs/answers": "nbs/answers/00_tour", "nbs/method": "nbs/method/00_labels",
                "nbs/verification": "nbs/verification/20_speakers", "nbs/results": "paper/results/README",
                "nbs/course": next((p.doc for p in pages if p.section == "Course"), "")}
        for p in pages:  # a lesson's three files are one page
            if p.source.parent.as_posix() == "nbs/course/student":
                also |= {f"nbs/course/{kind}/{p.source.name}": p.doc for kind in ("source", "instructor")}
        for sheet in SHEET_NAMES:
            for folder in CORPORA:  # the stand-in's first
                for at in (f"nbs/results/{sheet}.ipynb", f"paper/results/{folder}/{sheet}.md"):
                    if (doc := f"paper/results/{folder}/{sheet}") in by_doc: also.setdefault(at, doc)
        also |= {f"nbs/results/{name}.ipynb": f"paper/benchmarks/{name}" for name in BENCHMARKS}
        for folder in {p.source.parent.as_posix() for p in pages if p.source.suffix == ".py"} - {"mkdcls"}:
            also[folder] = "mkdcls/index"
        for at, doc in also.items():
            if doc in by_doc: self.pages.setdefault(at, by_doc[doc])
        self.copied: set[Path] = set()

    def file_of(self, page: Page) -> str:
        "The staged file"
        return page.doc + (".ipynb" if page.source.suffix == ".ipynb" else ".md")

    def led(
        self,
        to: str,  # relative link, as it stands
        folder: str,  # that it starts in, relative to the top
        page: Page,  # that it will stand on
    ) -> str | None:  # as the staged page writes it; None: nothing to lead to, the words stay
        "Web addresses and anchors stay; a page's file becomes the page; another file is offered as it is"
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|#|//", to): return to
        path, mark, anchor = to.partition("#")
        at = os.path.normpath(os.path.join(folder, path)).strip("/")
        start = os.path.dirname(page.doc) or "."
        # a page that tells of a file, CITATION.cff for one, leads to the file itself
        if (target := self.pages.get(at)) is not None and (target != page or target.source.as_posix() == at):
            return os.path.relpath(self.file_of(target), start) + mark + anchor
        if (self.root / at).is_file():
            name = at if Path(at).suffix not in (".md", ".ipynb") else f"{at}.txt"  # else Sphinx takes it for a page
            self.copied.add(Path(name))
            put(self.stage / name, (self.root / at).read_bytes())
            return os.path.relpath(name, start)
        return None

    def relinked(self, text: str, page: Page, folder: str) -> str:
        "A markdown text with its links led; code is left alone"
        def one(m):
            to = self.led(m[2] or m[3], folder, page)
            if to is None: return re.match(r"!?\[(.*)\]\($", m[1], re.S)[1]
            return f"{m[1]}<{to}>{m[4]}" if " " in to else f"{m[1]}{to}{m[4]}"
        parts = CODE_PARTS.split(text)
        # a link's words may hold code: [`x`](y). Such links are put together again by splitting fences of lines only
        if any("`" in m[1] for m in LINKED.finditer(text)):
            parts = re.split(r"(^(?:```|~~~).*?^(?:```|~~~)\s*$)", text, flags=re.S | re.M)
        return "".join(p if i % 2 else LINKED.sub(one, p) for i, p in enumerate(parts))


def put(path: Path, data: bytes | str) -> None:
    "Write a file, but only if that changes it"
    data = data.encode() if isinstance(data, str) else data
    if path.exists() and path.read_bytes() == data: return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# ---- notebooks

def first_sentence(text: str, most: int = 240) -> str:
    "Of a markdown text, without its marks"
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"^[#>|\-\s]+", "", text.strip()))
    text = " ".join(re.sub(r"[*`$]", "", text.split("\n\n")[0]).split())
    found = re.match(r"(?:Fig(?:ure|\.) ?[\w.]*[.:] )?.*?(?<!\be\.g)(?<!\bEq)(?<!\bal)(?<!\bFig)[.!?](?=\s|$)", text)
    text = (found[0] if found else text).rstrip(":")
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


def described(cells: list[dict], at: int) -> str:
    "What to say of the pictures of a cell: its caption, else the section and the words before it"
    if at + 1 < len(cells) and cells[at + 1]["cell_type"] == "markdown":
        after = words_in(cells[at + 1]).strip()
        if re.match(r"\*\*Fig(ure|\.)|\*[A-Z][^*]+\*(?:\s|$)", after): return first_sentence(after)
    words = [words_in(c).strip() for c in cells[:at] if c["cell_type"] == "markdown"]
    headings = [h for w in words for h in re.findall(r"^#+ (.+)$", w, re.M)]
    last = words[-1].split("\n\n") if words else []
    body = [p for p in last if p and not p.startswith(("#", "|", "```", "![", "- ", ">"))]
    where = "Picture" + (f" in the section {re.sub('[*`$]', '', headings[-1])}" if headings else "")
    return f"{where}: {first_sentence(body[-1])}" if body else where


def spoken(outputs: list[dict], at: int) -> str:
    "What to call a sound: the words shown just before it"
    for o in reversed(outputs[:at]):
        if words := "".join(o.get("data", {}).get("text/markdown", "")): return re.sub(r"[*_`]", "", words).strip()
    return "Sound"


def tidied(markup: str) -> str:
    "An HTML output without pandas' own style"
    markup = re.sub(r"<style scoped>.*?</style>\s*", "", markup, flags=re.S)
    markup = re.sub(r'<table border="1" class="dataframe"', '<table class="dataframe"', markup)
    markup = re.sub(r' style="text-align: (right|left);"', "", markup)
    return re.sub(r"<th>(?=[^<\s])", '<th scope="col">', markup)


def with_outputs(nb: dict, source: Path) -> None:
    "A student's file has no outputs; its source has them, and those of cells that hold no answer are shown"
    if not source.exists(): return
    kept = {c["id"]: c.get("outputs", []) for c in notebook(source)["cells"]}
    for cell in nb["cells"]:
        if cell["cell_type"] == "code" and "blank" not in cell["metadata"].get("tags", []):
            cell["outputs"] = kept.get(cell["id"], [])


def staged_notebook(page: Page, links: Links) -> str:
    "A notebook as myst-nb should read it"
    nb, folder = json.loads(json.dumps(notebook(links.root / page.source))), page.source.parent.as_posix()
    if folder == "nbs/course/student": with_outputs(nb, links.root / "nbs/course/source" / page.source.name)
    cells = []
    injected = any("injected-parameters" in c["metadata"].get("tags", []) for c in nb["cells"])
    for cell in nb["cells"]:
        source, meta = words_in(cell), cell["metadata"]
        if injected and "parameters" in meta.get("tags", []): continue  # what papermill put in their place is shown
        if cell["cell_type"] == "code":
            if "nbdev_export()" in source: continue
            source = re.sub(r"^#\|.*(?:\n|$)", "", source, flags=re.M).strip("\n")
            if not source and not cell["outputs"]: continue
            tags = [t for t in meta.get("tags", []) if t in FOLDS]
            cell["metadata"] = meta = {}
            before = cells[-1] if cells else {}
            if tags == ["setup"] and not cell["outputs"] and before.get("set_up") and not before["outputs"]:
                before["source"] += f"\n\n{source}"  # one fold for what follows without a word between
                continue
            if tags:
                cell["set_up"] = tags == ["setup"]
                meta["tags"] = ["hide-input"]
                meta["mystnb"] = {"code_prompt_show": FOLDS[tags[0]], "code_prompt_hide": FOLDS[tags[0]]}
            for i, out in enumerate(cell["outputs"]):
                data = out.get("data", {})
                data.pop("application/vnd.jupyter.widget-view+json", None)
                if "text/html" in data:
                    data["text/html"] = tidied("".join(data["text/html"])).replace(
                        "<audio ", f'<audio aria-label="{html.escape(spoken(cell["outputs"], i))}" ', 1)
                if "text/markdown" in data:
                    data["text/markdown"] = links.relinked("".join(data["text/markdown"]), page, folder)
        else:
            source = links.relinked(source, page, folder)
            if re.search(r"^# ", "\n".join(c["source"] for c in cells if c["cell_type"] == "markdown"), re.M):
                # a page has one title; code is left alone
                parts = re.split(r"(^```.*?^```)", source, flags=re.S | re.M)
                source = "".join(p if i % 2 else re.sub(r"^# ", "## ", p, flags=re.M) for i, p in enumerate(parts))
        cell["source"] = source
        cells.append(cell)
    for cell in cells: cell.pop("set_up", None)
    for i, cell in enumerate(cells):
        if any(k.startswith("image/") for o in cell.get("outputs", []) for k in o.get("data", {})):
            cell["metadata"].setdefault("mystnb", {})["image"] = {"alt": described(cells, i)}
    if page.doc == "nbs/glossary": with_uses(cells, links)
    nb["cells"], nb["metadata"] = cells, {"kernelspec": {"name": "python3", "display_name": "Python 3",
                                                         "language": "python"}, "language_info": {"name": "python"}}
    return json.dumps(nb, indent=1, ensure_ascii=False) + "\n"


# ---- the glossary

def glossary_words(root: Path = ROOT) -> list[str]:
    "First column of the glossary's table of words"
    cells = [words_in(c) for c in notebook(root / "nbs/glossary.ipynb")["cells"] if "| word | meaning |" in words_in(c)]
    return [row.split("|")[1].strip() for row in cells[0].split("| word | meaning |")[1].splitlines()[2:] if "|" in row]


def anchor_of(word: str) -> str: return "word-" + re.sub(r"\W+", "-", word.lower()).strip("-")


def patterns(word: str) -> list[str]:
    "How a word of the glossary may stand in a text; `EER, minDCF` are two words"
    return [rf"(?<![\w-]){re.escape(w.strip())}s?(?![\w-])" for w in word.split(", ")]


def with_uses(cells: list[dict], links: Links, most: int = 6) -> None:
    "Give each word an anchor and the pages that use it first"
    def prose_of(p): return "\n".join(words_in(c) for c in notebook(links.root / p.source)["cells"]
                                      if c["cell_type"] == "markdown")
    said = [(p, prose_of(p))
            for p in links.pages.values() if p.source.as_posix().startswith(("nbs/method", "nbs/verification"))]
    for cell in cells:
        if "| word | meaning |" not in words_in(cell): continue
        lines = cell["source"].splitlines()
        for i, line in enumerate(lines):
            word = line.split("|")[1].strip() if line.startswith("| ") else ""
            if word not in glossary_words(links.root):
                if line.startswith(("| word", "| ---")): lines[i] += " used on |" if "word" in line else " --- |"
                continue
            uses = [p for p, text in said if any(re.search(x, text) for x in patterns(word))]
            told = ", ".join(f"[{p.source.stem.split('_')[0]}]({os.path.relpath(links.file_of(p), 'nbs')})"
                             for p in uses[:most]) + (f" and {len(uses) - most} more" if len(uses) > most else "")
            cells_ = line.split("|")
            cells_[1] = f' <span id="{anchor_of(word)}"></span>{word} '
            lines[i] = "|".join(cells_) + f" {told} |"
        cell["source"] = "\n".join(lines)


# ---- pages in markdown

def home_table(root: Path) -> str:
    "The protocol's primary contrasts, as the front page shows them; ‡ marks a block that compares nothing"
    for c in notebook(root / "nbs/index.ipynb")["cells"]:
        if "front.first_table(" in words_in(c):
            return "".join(c["outputs"][0]["data"]["text/markdown"])
    raise ValueError("nbs/index.ipynb: no cell shows front.first_table(...)")


def minutes_told(root: Path) -> str:
    "How long the tour takes to read, as it says itself"
    text = "\n".join(words_in(c) for c in notebook(root / "nbs/00_tour.ipynb")["cells"])
    return re.search(r"About (\d+) minutes", text)[1]


def doors(root: Path, pages: list[Page]) -> str:
    "Five ways in"
    lessons = [p for p in pages if p.section == "Course"]
    course = (f"[A course]({lessons[0].source.as_posix()})** {len(lessons) - 1} lessons in which a class audits "
              "a claim." if lessons else
              "[A course](nbs/method/00_labels.ipynb)** Every page in the order of its number, with exercises and "
              "[answers](nbs/answers/00_tour.ipynb).")
    return "\n".join(f"- **{door}" for door in (
        "[Ten minutes](nbs/index.ipynb)** What the method is, what came out, and how far to trust it.",
        f"[An hour](nbs/00_tour.ipynb)** The tour: hear the speech, see the method, watch a small model learn "
        f"({minutes_told(root)} minutes to read).",
        "[A day](nbs/method/03_fbank.ipynb)** The method itself, equation by equation, pages 03 to 12.",
        course,
        "[My own corpus](nbs/own_data.ipynb)** From a list of recordings to your own Table 1.")) + "\n"


DIAL_ROWS = ("3", "4a", "5", "6")  # of the dial, and the two lines to compare with
DIAL_COLUMNS = ("row", "method", "train_rho", "test_rho", "value", "low", "high")


def rho_records(root: Path) -> list[dict]:
    "Agesup macro F1 against the ρ of the test, from the interventions sheet"
    with open(root / "paper/results/standin-laptop/interventions.csv", encoding="utf-8") as f:
        kept = [r for r in csv.DictReader(f) if r["sheet"] == "rho" and r["measure"] == "f1" and r["task"] == "agesup"
                and not r["against"] and r["row"] in (*DIAL_ROWS, "oracle", "chance")]
    def number(text): return round(float(text), 2) + 0. if text else None
    return [{c: r[c] if c in ("row", "method") else number(r[c]) for c in DIAL_COLUMNS} for r in kept]


def offered(root: Path) -> str:
    "Documents that other commands leave, where they are there"
    papers = {"paper/mkdcls.pdf": "the article (PDF)", "paper/poster.pdf": "the poster (PDF)"}
    found = [f"[{words}]({name})" for name, words in papers.items() if (root / name).exists()]
    if (root / MADE_SLIDES / "index.html").exists():
        found.append('<a href="slides/index.html">slides of the course</a>')
    return f"Also here: {', '.join(found)}." if found else ""


def remedies(root: Path) -> str:
    "What the sheet of remedies found on base, or that it has not been run"
    at, table = (Path("paper/results/standin-laptop") / name for name in ("remedies.ipynb", REMEDIES_TABLE))
    if not all((root / p).exists() for p in (at, table)): return "their sheet has not been run yet"
    lines = pd.read_csv(root / table)
    several = lines.groupby("student")["remedy"].nunique() > 1
    found, full = (least_lost(lines, s) if several.get(s, False) else None for s in ("base", "+MKD+CH"))
    a, b, c, d = (*found.ends(found.none), *found.ends(found.best))
    too = ""
    if full is not None:
        (_, e), (_, f) = full.ends(full.none), full.ends(full.best)
        too = (f" The full method falls to {e:.0f}, and with {REMEDY_NAMES.get(full.name, full.name)} it has {f:.0f} "
               "there.")
    own = shortcut_in_short((root / table).parent)
    one, with_it = found.tried == 1, REMEDY_NAMES.get(found.name, found.name)
    return (f"{count_word(found.tried)} of them {'has' if one else 'have'} been tried on speech, on base, with all "
            f"seeds: trained where the line tells the age, base falls from {a:.0f} to {b:.0f} points when that is "
            f"turned round; with {with_it} it has {c:.0f} and {d:.0f} ([their sheet]({at.as_posix()})).{too}"
            + " This remedy hears every utterance over both lines, which is exact in a simulator only; what is left "
            "for recordings is told where you [bring your own](nbs/own_data.ipynb)."
            * (found.name in ("replay", "match")) + f" {own}." * bool(own))


def code_from(root: Path) -> str:
    "Where the commands are typed: the public address where there is one"
    address = settings(root / "settings.ini")["git_url"]
    return f"`git clone {address}`, and in that folder:" if address else "In the project's folder:"


def told_value(root: Path, name: str) -> str:
    "A number or word of the article, which names the record that it was read from"
    return json.loads((root / "paper/article/values.json").read_text("utf-8"))["values"][name]["text"]


def citation(root: Path) -> str:
    "CITATION.cff as it stands, and as BibTeX"
    import yaml
    text = (root / "CITATION.cff").read_text("utf-8")
    cff = yaml.safe_load(text)
    def people(entry):
        return " and ".join(a.get("name") and "{" + a["name"] + "}" or f"{a['family-names']}, {a['given-names']}"
                            for a in entry["authors"])
    entries = [f"@software{{mkdcls,\n  title = {{{cff['title']}}},\n  author = {{{people(cff)}}},\n"
               f"  version = {{{cff['version']}}}\n}}"]
    first = cff["references"][0]
    entries.append(f"@misc{{{first['authors'][0]['family-names'].lower()}_mixup,\n  title = {{{first['title']}}},\n"
                   f"  author = {{{people(first)}}},\n  howpublished = {{{first['collection-title']}}},\n"
                   f"  year = {{{first['year']}}},\n  url = {{{first['url']}}}\n}}")
    return "```bibtex\n" + "\n\n".join(reversed(entries)) + "\n```"


def filled(text: str, root: Path, pages: list[Page]) -> str:
    "A page written by hand with its {{holes}} filled; {{of name}} is a value of the article"
    holes = {"table": lambda: home_table(root), "doors": lambda: doors(root, pages), "offered": lambda: offered(root),
             "rho": lambda: json.dumps(rho_records(root), ensure_ascii=False), "cite": lambda: citation(root),
             "remedies": lambda: remedies(root), "code_from": lambda: code_from(root)}
    holes |= {f.__name__: lambda f=f: f(root) for f in (home.by_how_much, home.told_gains, home.when,
                                                      home.which_part, home.told_part, home.told_counts,
                                                      home.counted_seeds, home.when_it_helps)}
    text = re.sub(r"\{\{(\w+)\}\}", lambda m: holes[m[1]](), text)
    return re.sub(r"\{\{of ([\w.]+)\}\}", lambda m: told_value(root, m[1]), text)


def package_page(modules: list[api.Module], pages: list[Page], root: Path) -> str:
    "All modules, a line each"
    out = ["# Package mkdcls", "> Every public name: what it takes, with shape and unit, what it gives, which errors "
           "it raises, which equation of the paper it is, and its source.",
           "Modules that a page writes come first; the others are written by hand."]
    groups = {"Written by the pages of the method": lambda m: m.page.startswith("nbs/method"),
              "Written by the pages of the two earlier papers": lambda m: m.page.startswith("nbs/verification")}
    for folder, words in (("engine", "Engine: stores, runs, portability"), ("intake", "Intake: corpora and features"),
                          ("course", "Course: checks, dials, players, slides, marks"),
                          ("results", "Results: sheets, pictures, command line"),
                          ("publish", "Publish: site, article")):
        groups[words] = lambda m, folder=folder: m.dotted.startswith(f"mkdcls.{folder}.")
    for words, of in groups.items():
        rows = [f"| [{api.escaped(m.dotted)}](/{m.path.as_posix()}) | {api.escaped(m.doc)} | {len(m.names)} |"
                for m in modules if of(m)]
        if rows: out.append(f"## {words}\n\n| module | what it is | names |\n| --- | --- | --- |\n" + "\n".join(rows))
    return "\n\n".join(out).replace("](/mkdcls/", "](../mkdcls/") + "\n"


def printed_tables(root: Path) -> str:
    "What the three papers print, as we copied it"
    out = ["# The papers' printed tables", "> Copied from the papers by hand; everything that is called *paper* on "
           "this site comes from here"]
    for path in sorted((root / "paper/published").glob("*.csv")):
        with open(path, encoding="utf-8") as f: rows = list(csv.reader(f))
        lines = ["| " + " | ".join(api.escaped(c) for c in row) + " |" for row in rows]
        out.append(f"## {path.stem}\n\nAs a file: [{path.name}](paper/published/{path.name})\n\n" +
                   "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]]))
    return "\n\n".join(out) + "\n"


# ---- stage

def staged(root: Path, stage: Path) -> tuple[list[Page], dict]:
    "Write all sources of the site; the pages, and where names and words are explained"
    pages = site_pages(root)
    links, written = Links(pages, root, stage), set()
    modules = [api.read_module(root / p.source, root) for p in pages if p.section == "Reference"
               and p.doc != "mkdcls/index"]
    by_path = {m.path: m for m in modules}
    for page in pages:
        folder = page.source.parent.as_posix()
        if page.doc == "mkdcls/index": text = links.relinked(package_page(modules, pages, root), page, "mkdcls")
        elif page.doc == "paper/published/index": text = links.relinked(printed_tables(root), page, "")
        elif page.source.suffix == ".py":
            back = "../" * page.doc.count("/")
            eq = {d: f"{back}{at}" for d, at in EQUATION_PAGES.items()}
            text = api.module_page(by_path[page.source], eq, back)
        elif page.source.suffix == ".ipynb": text = staged_notebook(page, links)
        else:
            by_hand = page.source.is_relative_to((FOLDER / "pages").relative_to(root))
            text = (root / page.source).read_text("utf-8")
            text = links.relinked(filled(text, root, pages) if by_hand else text, page, "" if by_hand else folder)
        put(stage / links.file_of(page), text)
        written.add(Path(links.file_of(page)))
    for old in stage.rglob("*"):
        if old.is_file() and old.relative_to(stage) not in written | links.copied: old.unlink()
    names: dict[str, tuple[str, str]] = {}
    twice = set()
    for m in modules:
        for n in m.names:
            twice |= {n.name} & names.keys()
            names[n.name] = (m.path.with_suffix("").as_posix(), api.anchor(m, n))
    words = {w: anchor_of(w) for w in glossary_words(root) if not {*w.split(", ")} & COMMON}
    return pages, {"names": {k: v for k, v in names.items() if k not in twice}, "words": words}
