"""The site: what staging does to a page, and, once built, that nothing is dead, nothing is fetched, nobody is left out.

The built site needs the extra `site`, its pictures and requests a Chromium; tests that lack them say so and are skipped.
"""
import importlib.util
import json
import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from chrome import BROWSER, Chrome
from mkdcls.publish import api, home, site, stage

ROOT = Path(__file__).resolve().parents[1]
LACKING = [m for m in ("sphinx", "myst_nb", "mathjax") if importlib.util.find_spec(m) is None]
built = pytest.mark.skipif(bool(LACKING), reason=f"the extra `site` is not installed: no {', '.join(LACKING)}")
seen = pytest.mark.skipif(not BROWSER, reason="no Chromium here")
TEN = ("index", "nbs/index", "nbs/00_tour", "live", "nbs/method/04_mixup", "nbs/method/14_causal", "nbs/glossary",
       "paper/results/README", "mkdcls/asymmetric", "faq")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS = {"div", "p", "ul", "ol", "table", "pre", "blockquote", "section", "details", "h2", "figure"}  # a browser ends a paragraph there
LOADS = {"img": "src", "script": "src", "source": "src", "audio": "src", "iframe": "src", "link": "href"}  # a browser fetches these


# ---- staging

def page(path: str, doc: str = "") -> stage.Page:
    return stage.Page(Path(path), doc or str(Path(path).with_suffix("")), "", "")


@pytest.fixture
def links(tmp_path):
    root = tmp_path / "checkout"
    for name in ("nbs/method/04_mixup.ipynb", "nbs/00_tour.ipynb", "mkdcls/mixup.py", "paper/protocol.md", "paper/x.csv", "LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("# a\n")
    return stage.Links([page(p) for p in ("nbs/method/04_mixup.ipynb", "nbs/00_tour.ipynb", "mkdcls/mixup.py", "paper/protocol.md")], root, tmp_path / "stage")


@pytest.mark.parametrize("text,want", [
    ("[a](../00_tour.ipynb#x)", "[a](../00_tour.ipynb#x)"), ("[m](../../mkdcls/mixup.py)", "[m](../../mkdcls/mixup.md)"),
    ("[w](https://x.org/y) [h](#z)", "[w](https://x.org/y) [h](#z)"), ("[d](../../paper/x.csv)", "[d](../../paper/x.csv)"),
    ("[gone](nowhere.md) stays", "gone stays"), ("`[a](nowhere.md)`", "`[a](nowhere.md)`"), ("![p](../../LICENSE)", "![p](../../LICENSE)"),
    ("[`mixup`](../../mkdcls/mixup.py)", "[`mixup`](../../mkdcls/mixup.md)")])
def test_links_are_led(links, text, want):
    assert links.relinked(text, page("nbs/method/04_mixup.ipynb"), "nbs/method") == want
    if "x.csv" in text: assert (links.stage / "paper/x.csv").exists(), "a file is offered as it is"


def test_a_cell_as_a_reader_sees_it(links):
    "Directives go, set-up is folded, the export is left out, pictures and sounds get a name"
    def cell(source, kind="code", tags=(), outputs=()):
        return {"cell_type": kind, "id": "a", "source": source, "metadata": {"tags": [*tags]},
                **({"outputs": [*outputs], "execution_count": None} if kind == "code" else {})}
    png, sound = {"image/png": "AAAA"}, {"text/html": "<audio  controls><source src='data:audio/wav;base64,AA'></audio>"}
    nb = {"cells": [cell("# T", "markdown"), cell("#| export\nimport a", tags=["setup"]), cell("#| default_exp b"),
                    cell("We draw a line. It is red.", "markdown"), cell("plot()", outputs=[{"output_type": "display_data", "data": png}]),
                    cell("**Figure 2.** Two worlds. More.", "markdown"),
                    cell("play()", outputs=[{"output_type": "display_data", "data": {"text/markdown": "**A voice**"}},
                                            {"output_type": "display_data", "data": sound}]),
                    cell("#| hide\nnbdev_export()", tags=["setup"])], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (links.root / "nbs/method/04_mixup.ipynb").write_text(json.dumps(nb))
    got = json.loads(stage.staged_notebook(page("nbs/method/04_mixup.ipynb"), links))["cells"]
    assert [c["source"] for c in got if c["cell_type"] == "code"] == ["import a", "plot()", "play()"]
    assert got[1]["metadata"]["tags"] == ["hide-input"] and "Set-up" in got[1]["metadata"]["mystnb"]["code_prompt_show"]
    assert got[3]["metadata"]["mystnb"]["image"]["alt"] == "Figure 2. Two worlds."
    assert 'aria-label="A voice"' in got[5]["outputs"][1]["data"]["text/html"]


def test_what_a_picture_is_called():
    cells = [{"cell_type": "markdown", "source": "## Loss\n\nFirst by hand. Then drawn: cost against $p$."}, {"cell_type": "code", "source": "x"}]
    assert stage.described(cells, 1) == "Picture in the section Loss: First by hand."
    cells.append({"cell_type": "markdown", "source": "*Figure: two voices; bright is loud. More.*"})
    assert stage.described(cells, 1) == "Figure: two voices; bright is loud."
    assert stage.first_sentence("see Eq. 4, e.g. here. Next.") == "see Eq. 4, e.g. here."


def test_buttons_wait_for_an_address():
    "The one place that says where the project is public is settings.ini's git_url"
    assert site.opened_in("nbs/a.ipynb", "", "main") == {} == site.opened_in("mkdcls/a.py", "who/what", "main")
    there = site.opened_in("nbs/a.ipynb", "who/what", "main")
    assert set(there) == {"Lab (Binder)", "Colab", "GitHub"} and there["Colab"].endswith("/github/who/what/blob/main/nbs/a.ipynb")


MODULE = '''"""First line

More."""
LEVEL = 3  # a constant

def f(
    x:Tensor, # `[B, T]` input; |x| < 1
    k:int=2, # Hz, Eq. 4
)->Tensor: # `[B]` answer
    "Does it, Eq. 4"
    if k < 0: raise ValueError(f"k must be {LEVEL} or more, got {k}")
    try: return x
    except KeyError as e: raise e

class F:
    "A thing"
    a: int = 1  # seconds
    def g(self): "Goes"
    def _h(self): "hidden"
'''


def test_a_module_is_read_off_its_source(tmp_path):
    (tmp_path / "mkdcls").mkdir()
    (tmp_path / "mkdcls/m.py").write_text(MODULE)
    m = api.read_module(tmp_path / "mkdcls/m.py", tmp_path)
    f, F = m.names
    assert (m.doc, m.rest, m.constants) == ("First line", "More.", [("LEVEL", "3", "a constant")])
    assert f.parameters == [("x", "Tensor", "", "`[B, T]` input; |x| < 1"), ("k", "int", "2", "Hz, Eq. 4")]
    assert f.returns == ("Tensor", "`[B]` answer") and f.errors == [("ValueError", "k must be … or more, got …")]
    assert F.parameters == [("a", "int", "1", "seconds")] and [g.name for g in F.methods] == ["F.g"]
    text = api.module_page(m, {"4": "../p.ipynb"}, "../")
    assert "[Eq. 4](../p.ipynb)" in text and r"\|x\| &lt; 1" in text and "(mkdcls.m.f)=" in text and "(mkdcls.m.F.class)=" in text


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "mkdcls").rglob("*.py") if not p.stem.startswith("_")))
def test_every_module_can_be_read(path):
    m = api.read_module(ROOT / path, ROOT)
    assert m.doc, f"{path}: no docstring"
    for n in m.names: assert n.doc or "main" in n.name or n.name.startswith("_") or m.page == "" or n.parameters or n.source, n.name


def test_reading_order():
    "Every page once, the numbers rising; answers and reference last"
    pages = stage.site_pages(ROOT)
    docs = [p.doc for p in pages]
    assert len(docs) == len(set(docs)) and docs[:3] == ["index", "nbs/index", "nbs/00_tour"]
    numbers = [p.source.stem for p in pages if p.source.parts[:2] in (("nbs", "method"), ("nbs", "verification"))]
    assert numbers == sorted(numbers) and len(numbers) >= 41
    named = {p.source.as_posix() for p in pages} | {"nbs/all_results.ipynb"}
    left = [p for p in (ROOT / "nbs").rglob("*.ipynb") if "checkpoints" not in str(p) and p.relative_to(ROOT).as_posix() not in named
            and p.parent.name not in ("results", "source", "instructor")]
    assert not left, f"pages that the site leaves out: {left}"


def test_every_sheet_has_its_page():
    "The site's list of sheets is the command line's"
    from mkdcls.results.sheets import SHEETS
    assert set(stage.SHEET_NAMES) == set(SHEETS)


def test_pictures_of_the_first_page():
    "They tell the records' numbers to those who do not see them"
    told = home.by_how_much(ROOT)
    for r in home.primary_gains(ROOT)["stand-in"]: assert home.spanned(r) in told
    assert "trained at ρ = 0.8" in home.when(ROOT) and home.parts_of(ROOT)[0]["what"] in home.which_part(ROOT).replace("&amp;", "&")


def test_the_dials_records_are_the_sheets():
    kept = stage.rho_records(ROOT)
    assert {r["row"] for r in kept} == {*stage.DIAL_ROWS, "oracle", "chance"}
    assert all(len([r for r in kept if r["row"] == row and r["train_rho"] == t]) == 9 for row in stage.DIAL_ROWS for t in (0, .4, .8))


def test_a_block_that_compares_nothing_is_marked():
    "In the table, and below it a sentence that says why; the picture's names carry the same mark"
    weak = [r for r in home.primary_gains(ROOT)["stand-in"] if r["row"] in home.weak_blocks(ROOT)]
    marked = [line for line in stage.home_table(ROOT).splitlines() if "‡" in line]
    assert len(marked) == len(weak) and all(any(r["block"] in line for line in marked) for r in weak)
    told = stage.filled("{{told_counts}}", ROOT, [])
    assert ("compares nothing" in told) == bool(weak) and home.by_how_much(ROOT).count("‡") == len(weak)


def test_the_first_page_follows_the_protocol_that_is_shown(tmp_path):
    "From half of protocol 2's seeds on, table, sentences and picture are its own"
    results = tmp_path / "paper" / "results"
    for who in ("standin-laptop", "real-laptop"): (results / who).mkdir(parents=True)
    for name in ("gains.csv", "runs.csv", "predictions.parquet"): (results / "standin-laptop" / name).symlink_to(ROOT / "paper/results/standin-laptop" / name)
    (results / "real-laptop" / "gains.csv").symlink_to(ROOT / "paper/results/real-laptop/gains.csv")
    assert home.newest(tmp_path) is None and "five seeds" in home.told_counts(tmp_path) and "‡" in home.by_how_much(tmp_path)
    rows = ["contrast,row,n_seeds,gain,low,high"] + [f"+MKD+CH − base {r},{r},12,9.25,8.5,9.75" for r in ("6", "10", "13")]
    rows.append('"+MKD+CH − +CH, ECAPA-TDNN",6,12,-3,-4,-2')  # another contrast of the same row
    (results / "standin-laptop" / "decisive.csv").write_text("\n".join(rows) + "\n", "utf-8")
    kept = ROOT / "paper/results/standin-laptop/decisive"
    (results / "standin-laptop" / "decisive").symlink_to(kept)
    assert "from 12 of the 20 seeds" in home.told_counts(tmp_path) and "12 seeds on the stand-in" in home.counted_seeds(tmp_path)
    assert home.by_how_much(tmp_path).count("stand-in +9.2 [+8.5, +9.8]") == 3
    assert "all of our 6 intervals end below the paper's gain" in home.told_gains(tmp_path)
    rows[1] = rows[1].replace("9.75", "15.75")  # the paper's is 15.1
    (results / "standin-laptop" / "decisive.csv").write_text("\n".join(rows) + "\n", "utf-8")
    assert "5 of our 6 intervals end below the paper's gain" in home.told_gains(tmp_path)


def test_when_it_helps_is_told_from_the_records(tmp_path):
    "Nothing before controls or doses have been run; then what each kind of K is worth"
    folder = tmp_path / "paper/results/standin-laptop"
    folder.mkdir(parents=True)
    assert home.when_it_helps(tmp_path) == ""
    lines = [f'"K {kind} − none, row {row}",{gain},{gain - 1},{gain + 1},5' for kind, gain in (("causes", 9), ("FCVG", 1), ("untrained", 0))
             for row in ("4a", "6")]
    (folder / "decisive-controls.csv").write_text("\n".join(["contrast,gain,low,high,n_seeds", *lines]) + "\n", "utf-8")
    told = home.when_it_helps(tmp_path)
    assert "K made of the true causes is worth +9.0 to +9.0 points" in told and "[The sheet]" in told
    dose = "curve,level,train_utterances,row,against,n_seeds,score,gain,low,high,change,change_low,change_high\n"
    lines = [f"speakers,{level},{many},6,3,3,66,{gain},{gain - 1.5},{gain + 1.5},{since}"
             for level, many, gain, since in ((1, 2880, .75, ",,"), (4, 11520, -.75, "-1.5,-3.0,0.0"))]
    (folder / "decisive-doses.csv").write_text(dose + "\n".join(lines) + "\n", "utf-8")
    assert "we found no condition so far in which it gains more than a point for sure" in home.when_it_helps(tmp_path)
    (folder / "decisive-doses.csv").write_text(dose + "\n".join(lines).replace("0.75,-0.75", "3.25,1.75") + "\n", "utf-8")
    assert "+3.2 [" in home.when_it_helps(tmp_path) and "no condition" not in home.when_it_helps(tmp_path)


def test_an_executed_sheet_shows_the_parameters_it_was_run_with(tmp_path):
    "Not those of the page beside them"
    pages = stage.site_pages(ROOT)
    sheet = next(p for p in pages if p.doc == "paper/results/standin-laptop/remedies")
    told = stage.staged_notebook(sheet, stage.Links(pages, ROOT, tmp_path))
    assert 'preset = \\"laptop\\"' in told and 'preset = \\"smoke\\"' not in told


def test_comments_in_commands_are_no_headings(tmp_path):
    pages = stage.site_pages(ROOT)
    own = next(p for p in pages if p.doc == "nbs/own_data")
    told = json.loads(stage.staged_notebook(own, stage.Links(pages, ROOT, tmp_path)))
    lines = [l for c in told["cells"] if c["cell_type"] == "markdown" for l in "".join(c["source"]).splitlines()]
    assert "# half of the training is, by a coin" in lines and "## Recordings with gender and age" in lines


def test_commands_say_where_they_are_typed(tmp_path):
    "With a public address the code is cloned from there; without one nothing is invented"
    ini = (ROOT / "settings.ini").read_text("utf-8")
    assert stage.code_from(ROOT).startswith(("In the project's folder", "`git clone "))
    (tmp_path / "settings.ini").write_text(re.sub(r"(?m)^git_url.*$", "git_url = https://github.com/who/what", ini), "utf-8")
    assert stage.code_from(tmp_path) == "`git clone https://github.com/who/what`, and in that folder:"
    (tmp_path / "settings.ini").write_text(re.sub(r"(?m)^git_url.*$", "git_url =", ini), "utf-8")
    assert stage.code_from(tmp_path) == "In the project's folder:"


def test_a_page_about_a_file_leads_to_it():
    "CITATION.cff is told by the page *cite* everywhere else; a sheet that only real speech has leads to its page"
    import tempfile
    pages = stage.site_pages(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        links = stage.Links(pages, ROOT, Path(folder))
        cite = next(p for p in pages if p.doc == "cite")
        other = next(p for p in pages if p.doc == "nbs/method/18_pretrained")
        assert links.led("CITATION.cff", "", cite) == "CITATION.cff" and (Path(folder) / "CITATION.cff").is_file()
        assert links.led("../../CITATION.cff", "nbs/method", other).endswith("cite.md")
        assert links.led("../results/real.ipynb", "nbs/method", other).endswith("real-laptop/real.ipynb")


def test_pages_by_hand_read_the_articles_values():
    assert stage.filled("with {{of rho.seeds}}.", ROOT, []) == f"with {stage.told_value(ROOT, 'rho.seeds')}."
    with pytest.raises(KeyError): stage.filled("{{of no.such.value}}", ROOT, [])


# ---- colours

def luminance(colour: str) -> float:
    c = colour.lstrip("#")
    c = "".join(2 * d for d in c) if len(c) == 3 else c
    parts = [int(c[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    return sum(w * (p / 12.92 if p <= .04045 else ((p + .055) / 1.055)**2.4) for w, p in zip((.2126, .7152, .0722), parts))


def contrast_of(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + .05) / (low + .05)


def test_colours_can_be_read():
    "WCAG AA, 4.5, for every text on every ground, in either scheme"
    css = (stage.FOLDER / "theme/static/site.css").read_text()
    schemes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block)) for block in re.findall(r"\{([^{}]*--ground:[^{}]*)\}", css)]
    assert len(schemes) == 3 and schemes[1] == schemes[2], "dark is written twice, for the choice and for the system's"
    for s in schemes:
        for ground, texts in {"ground": ("text", "quiet", "link"), "raised": ("text", "quiet", "link"), "quote": ("text", "link"), "mark": ("text",),
                              "departure": ("text", "link"), "code": ("text", "kw", "str", "num", "com", "fn", "link")}.items():
            for text in texts: assert contrast_of(s[text], s[ground]) >= 4.5, f"{text} on {ground}: {contrast_of(s[text], s[ground]):.1f}"


# ---- the built site

class Read(HTMLParser):
    "What a page holds, and what is wrong with its markup"
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.wrong, self.open, self.labels, self.fields, self.headings = [], [], [], [], [], set(), [], []
        self.feed(text)
        if self.open: self.wrong.append(f"never closed: {self.open}")

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if len(a) != len(attrs): self.wrong.append(f"an attribute twice: {tag} {attrs}")
        if "id" in a: self.ids.append(a["id"])
        if tag == "a" and "href" in a: self.links.append(a["href"])
        if tag in LOADS and a.get(LOADS[tag]) and a.get("rel") not in ("next", "prev"): self.loaded.append(a[LOADS[tag]])
        if tag == "img" and not (a.get("alt") or "").strip(): self.wrong.append(f"a picture without words: {a.get('src', '')[:60]}")
        if tag == "img" and a.get("alt", "").startswith(("../", "_images")): self.wrong.append(f"a picture named after its file: {a['alt']}")
        if tag == "audio" and not a.get("aria-label"): self.wrong.append("a sound without a name")
        if tag == "label": self.labels.add(a.get("for"))
        if tag in ("input", "select", "textarea") and not (a.get("aria-label") or a.get("aria-labelledby") or "label" in self.open):
            self.fields.append(a.get("id"))
        if tag == "button" and "style" in a: self.wrong.append("a button with a style of its own")
        if re.fullmatch(r"h[1-6]", tag): self.headings.append(int(tag[1]))
        if tag in BLOCKS and "p" in self.open: self.wrong.append(f"a {tag} in a paragraph, line {self.getpos()[0]}")
        if tag == "a" and "a" in self.open: self.wrong.append("a link in a link")
        if tag not in VOID: self.open.append(tag)

    def handle_startendtag(self, tag, attrs): (self.handle_starttag(tag, attrs), tag in VOID or self.open.pop())

    def handle_endtag(self, tag):
        if tag in VOID: return
        if not self.open or self.open[-1] != tag: self.wrong.append(f"</{tag}> closes {self.open[-3:]}, line {self.getpos()[0]}")
        if tag in self.open:
            while self.open.pop() != tag: pass


@pytest.mark.parametrize("text,wrong", [
    ("<p><a>x</p></a>", "closes"), ("<div><p>x</p>", "never closed"), ('<img src="a.png">', "without words"), ('<img src="a" alt=" ">', "without words"),
    ("<audio controls></audio>", "without a name"), ('<p id="a" id="b">x</p>', "twice"), ('<img alt="../_images/a.png">', "named after its file"),
    ("<p>a<div>b</div></p>", "in a paragraph"), ("<a href='x'><a href='y'>z</a></a>", "a link in a link")])
def test_bad_markup_is_seen(text, wrong): assert any(wrong in w for w in Read(text).wrong), Read(text).wrong


def test_good_markup_is_not():
    r = Read('<main><img alt="a" src="b.png"><label>c <input id="d"></label><label for="e">e</label><input id="e"><svg><path d="M0"/></svg></main>')
    assert (r.wrong, r.fields, r.loaded) == ([], ["e"], ["b.png"]) and "e" in r.labels


@cache
def read(path: Path) -> Read: return Read(path.read_text("utf-8"))


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> tuple[Path, list[str]]:
    "The site, built once, whichever worker comes first"
    from filelock import FileLock
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    base = tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.getbasetemp()
    out, told = base / "site", base / "site-told.json"
    with FileLock(f"{out}.lock"):
        if not told.exists(): told.write_text(json.dumps(site.build_site(ROOT, out, base / "stage", jobs=1 if worker else 2)))
    return out, json.loads(told.read_text())


def html_of(out: Path) -> list[Path]: return sorted(p for p in out.rglob("*.html") if not {"_static", "slides"} & {*p.relative_to(out).parts})


@built
@pytest.mark.slow
def test_nothing_is_warned_of(made): assert made[1] == []


@built
@pytest.mark.slow
def test_every_page_is_there(made):
    "And nothing is left beside the site"
    out = made[0]
    assert {p.name for p in out.parent.iterdir() if "jupyter" in p.name} == set()
    gone = [p.doc for p in stage.site_pages(ROOT) if not (out / f"{p.doc}.html").exists()]
    assert not gone and (out / "search.html").exists() and (out / ".nojekyll").exists() and (out / "searchindex.js").exists()


@built
@pytest.mark.slow
def test_no_dead_link(made):
    "Every relative link leads to a file of the site, every anchor to an id on its page"
    out, dead = made[0], {}
    for path in html_of(out):
        for to in read(path).links + read(path).loaded:
            if re.match(r"https?:|mailto:|data:", to): continue
            file, _, anchor = to.split("?")[0].partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            if not target.is_file(): dead.setdefault(path.name, []).append(to)
            elif anchor and target.suffix == ".html" and unquote(anchor) not in read(target).ids: dead.setdefault(path.name, []).append(to)
    assert not dead, json.dumps(dead, indent=1)[:3000]


@built
@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(made):
    "What a browser loads by itself lies on the site: pictures, scripts, styles, what styles name"
    out = made[0]
    far = {p.name: f for p in html_of(out) if (f := [to for to in read(p).loaded if re.match(r"(https?:)?//", to)])}
    assert not far, far
    for css in out.rglob("*.css"): assert not re.search(r"url\(['\"]?(https?:)?//|@import", css.read_text("utf-8")), css
    ours = (stage.FOLDER / "theme/static").glob("*.js")
    for js in ours: assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org)", js.read_text("utf-8")), js


@built
@pytest.mark.slow
def test_markup_and_words_for_everything(made):
    "Tags close, ids are unique, pictures, sounds and fields have names, headings step down one at a time"
    wrong = {}
    for path in html_of(made[0]):
        r, text = read(path), path.read_text("utf-8")
        w = list(r.wrong)
        w += [f"id twice: {i}" for i in {i for i in r.ids if r.ids.count(i) > 1}] if len(set(r.ids)) < len(r.ids) else []
        w += [f"a field without a label: {f}" for f in r.fields if f not in r.labels]
        w += [f"h{a} then h{b}" for a, b in zip(r.headings, r.headings[1:]) if b > a + 1]
        if r.headings.count(1) != 1: w.append(f"{r.headings.count(1)} h1")
        if '<html lang="en"' not in text or not re.search(r"<title>[^<]+</title>", text): w.append("no language or title")
        if re.search(r"^#\| ", re.sub("<[^>]+>", "", text), re.M): w.append("a directive is shown")
        if w: wrong[str(path.relative_to(made[0]))] = w[:5]
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)[:4000]


@built
@pytest.mark.slow
def test_first_page_is_light(made):
    "Under 300 kB before pictures"
    out = made[0]
    r = read(out / "index.html")
    files = {(out / to.split("?")[0]).resolve() for to in r.loaded if not to.startswith("data:")}
    files = {f for f in files if f.suffix in (".css", ".js")}
    weight = (out / "index.html").stat().st_size + sum(f.stat().st_size for f in files)
    assert len(files) >= 2 and weight < 300_000, f"{weight:,} bytes"


@built
@pytest.mark.slow
def test_glossary_and_names_are_linked(made):
    out = made[0]
    mixup = (out / "nbs/method/10_objective.html").read_text("utf-8")
    assert 'class="to-name' in mixup and 'glossary.html#word-' in (out / "nbs/method/14b_ablations.html").read_text("utf-8")
    words = read(out / "nbs/glossary.html")
    assert {stage.anchor_of(w) for w in stage.glossary_words(ROOT)} <= set(words.ids)
    assert [to for to in words.links if to.startswith("verification/2")], "EER is used on the pages of verification"


# ---- in a browser

@built
@seen
@pytest.mark.slow
def test_in_a_browser(made):
    "Ten pages, two widths, light and dark: nothing from elsewhere, no error, nothing runs over; their pictures are kept"
    out, kept = made[0], ROOT / "_proc/site-pictures"
    kept.mkdir(parents=True, exist_ok=True)
    wrong = []
    with Chrome() as tab:
        for doc in TEN:
            for width, dark in ((1400, False), (1400, True), (390, False), (390, True)):
                name = f"{doc.replace('/', '_')}-{width}-{'dark' if dark else 'light'}"
                events = tab.open((out / f"{doc}.html").as_uri(), width, 1000 if width > 600 else 844, dark)
                asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
                wrong += [f"{name} asks for {a[:80]}" for a in asked if not a.startswith(("file:", "data:", "blob:"))]
                wrong += [f"{name}: {str(e['params'])[:200]}" for e in events if e["method"] == "Runtime.exceptionThrown"]
                if (over := tab.run("document.documentElement.scrollWidth - innerWidth")) > 0: wrong.append(f"{name} is {over} px too wide")
                if tab.run("[...document.images].some(i => i.complete && !i.naturalWidth)"): wrong.append(f"{name}: a picture is not shown")
                if tab.run("document.querySelectorAll('.math').length") and not tab.run("document.querySelectorAll('mjx-container svg').length"):
                    wrong.append(f"{name}: formulas are not set")
                if tab.run("document.querySelectorAll('mjx-merror').length"): wrong.append(f"{name}: a formula fails")
                tab.picture(kept / f"{name}.png")
    assert not wrong, "\n".join(wrong)


@built
@seen
@pytest.mark.slow
def test_dials_search_and_colours_work(made):
    out = made[0]
    with Chrome() as tab:
        tab.open((out / "live.html").as_uri())
        def turned(field, value):
            tab.run(f"(i => {{ i.value = {value}; i.dispatchEvent(new Event('input')); }})(document.getElementById('{field}'))")
        words = "document.getElementById('backdoor-words').textContent"
        assert "is 0.34 in both worlds" in tab.run(words) and "right in world 1, wrong in world 2" in tab.run(words)
        turned("copy", .5)
        assert "is 0.10 in both worlds" in tab.run(words)
        turned("copy", 1)
        assert "cannot be computed" in tab.run(words)
        tab.run("document.querySelector('input[name=rho][value=\"0.8\"]').click()")
        turned("test", -.8)
        shown = tab.run("document.getElementById('rho-words').innerText")
        want = next(r for r in stage.rho_records(ROOT) if (r["row"], r["train_rho"], r["test_rho"]) == ("6", .8, -.8))
        assert f"{want['value']:.1f}" in shown, shown
        tab.run("document.querySelector('.theme').click()"); tab.run("document.querySelector('.theme').click()")
        assert tab.run("document.documentElement.dataset.theme") == "dark"
        tab.open((out / "search.html").as_uri() + "?q=asymmetric", wait=2)
        assert "07 Asymmetric loss" in tab.run("document.getElementById('search-results').innerText") or \
            "Asymmetric loss" in tab.run("document.getElementById('search-results').innerText")


AXE = next((p for p in (Path(os.environ.get("AXE", "node_modules/axe-core/axe.min.js")), ) if p.is_file()), None)


@built
@seen
@pytest.mark.slow
@pytest.mark.skipif(AXE is None, reason="no axe-core: npm install axe-core, or AXE=<axe.min.js>")
def test_axe_finds_nothing_serious(made):
    found = {}
    with Chrome() as tab:
        for doc in TEN:
            for dark in (False, True):
                tab.open((made[0] / f"{doc}.html").as_uri(), dark=dark)
                tab.run(AXE.read_text("utf-8") + "; 1")
                got = tab.run("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.filter(v => ['serious', 'critical']"
                              ".includes(v.impact)).map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 140)).join(' | ')))")
                if got: found[f"{doc}, {'dark' if dark else 'light'}"] = got
    assert not found, json.dumps(found, indent=1)[:4000]


def test_make_site():
    import subprocess
    import sys
    done = subprocess.run(["make", "--no-print-directory", "-n", "site", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == f'"{sys.executable}" -m mkdcls.publish.site', done.stdout + done.stderr
    assert "needs site" in done.stdout and "pip install" not in done.stdout


@pytest.mark.parametrize("text,want", [
    ("<pre>x</pre>", '<pre tabindex="0">x</pre>'),
    ('<p>a:\n<div class="math">b</div>\n\nc</p>', '<p>a:\n</p>\n<div tabindex="0" class="math">b</div>\n<p>\n\nc</p>'), ("<th></th>", "<td></td>"),
    ("<blockquote>\n<div><p><strong>Departure:</strong>", '<blockquote class="departure">\n<div><p><strong>Departure:</strong>'),
    ('<img src="a"/><img src="b"/>', '<img src="a"/><img loading="lazy" src="b"/>'),
    ("<p><strong>Figure 2.</strong> x", '<p class="caption"><strong>Figure 2.</strong> x'),
    ('<summary aria-label="Toggle hidden content">\n<p class="collapsed admonition-title">A</p>\n<p class="expanded">B</p>\n</summary>', "<summary>A</summary>")])
def test_what_sphinx_leaves_out(text, want): assert site.finished(text) == want


def test_workflow_calls_the_same_target():
    import yaml
    jobs = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text("utf-8"))["jobs"]
    steps = [s for j in jobs.values() for s in j["steps"]]
    install, make = [s["run"] for s in steps if "run" in s]
    assert make == "make site PYTHON=python" and install.startswith("python -m pip install -c constraints.txt") and "site_requirements" in install
    assert any(s.get("with", {}).get("path") == "_docs" for s in steps)
