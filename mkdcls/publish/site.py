"""The site: `python -m mkdcls.publish.site`, or `make site`, builds _docs/ from the committed, executed notebooks.

Three steps, all without network: pages are staged (`mkdcls.publish.stage`), Sphinx with myst-nb makes HTML of them in a
theme of our own, and what a page may be missing (a way to reach a wide table by keyboard) is put in. No notebook is
run. There is no conf.py: this module tells Sphinx all it is told, and is the extension that Sphinx loads.
"""
from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import sys
from pathlib import Path

from mkdcls.engine.needs import ROOT, settings
from mkdcls.publish.stage import FOLDER, MADE_SLIDES, Page, patterns, put, staged

OUT, STAGE = Path("_docs"), Path("_proc/site")


# ---- Sphinx

def repository() -> tuple[str, str]:
    "Public address (owner/name) and branch; empty while settings.ini gives no git_url, and then no page offers them"
    cfg = settings()
    found = re.match(r"https://github\.com/([^/]+/[^/]+?)(?:\.git)?/?$", cfg["git_url"] or "")
    return (found[1] if found else "", cfg["branch"])


def opened_in(source: str, repo: str, branch: str) -> dict[str, str]:
    "Where a notebook may be opened, by name; nothing without a public address"
    if not repo or not source.endswith(".ipynb"): return {}
    return {"Lab (Binder)": f"https://mybinder.org/v2/gh/{repo}/{branch}?labpath={source}",
            "Colab": f"https://colab.research.google.com/github/{repo}/blob/{branch}/{source}",
            "GitHub": f"https://github.com/{repo}/blob/{branch}/{source}"}


def mathjax_script() -> Path:
    "MathJax 3 as one file that draws formulas as pictures, so that it needs no font files; from an installed package"
    spec = importlib.util.find_spec("mathjax")
    path = Path(spec.submodule_search_locations[0]) / "static/mathjax/es5/tex-svg.js" if spec else None
    if path is None or not path.exists():
        raise FileNotFoundError("MathJax is not installed: pip install -c constraints.txt '.[site]' brings it")
    return path


def made_by() -> str:
    "A digest of this folder: if the site is made otherwise than last time, every page is written anew"
    files = sorted(p for p in FOLDER.rglob("*") if p.is_file() and p.suffix in (".py", ".html", ".toml"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]


def configuration(pages: list[Page], known: dict) -> dict:
    "What Sphinx is told; there is no conf.py"
    cfg = settings()
    listed: dict[str, list[tuple[str, str]]] = {}
    for p in pages: listed.setdefault(p.section, []).append((p.doc, p.label or p.title))
    repo, branch = repository()
    return dict(
        project=cfg["title"], author=cfg["author"], copyright=cfg["copyright"], version=cfg["version"], language="en",
        extensions=["myst_nb", "sphinx.ext.mathjax", "mkdcls.publish.site"], root_doc="index",
        html_theme="theme", html_theme_path=[str(FOLDER)], html_title=cfg["title"], html_copy_source=False,
        html_use_index=False, html_domain_indices=False, html_show_sphinx=False, html_last_updated_fmt=None,
        smartquotes=False, highlight_language="none", nb_execution_mode="off", nb_render_markdown_format="myst",
        nb_merge_streams=True,
        nb_mime_priority_overrides=[["html", "application/vnd.jupyter.widget-view+json", None]],
        myst_enable_extensions=["dollarmath", "amsmath"], myst_heading_anchors=4, myst_dmath_double_inline=True,
        mathjax_path="mathjax/tex-svg.js",
        mathjax3_config={"options": {"enableMenu": False}, "svg": {"fontCache": "local"}},
        suppress_warnings=["toc.not_included", "myst.header", "mystnb.unknown_mime_type", "misc.highlighting_failure"],
        mkdcls_known=known, mkdcls_made_by=made_by(),
        html_context=dict(listed=listed, order=[p.doc for p in pages],
                          sources={p.doc: p.source.as_posix() for p in pages},
                          titles={p.doc: p.label or p.title for p in pages}, repo=repo, branch=branch))


def _apart(found: re.Match) -> str:
    "A paragraph with a displayed formula in it, as two paragraphs with the formula between them"
    text = found[0].replace("<div ", "</p>\n<div ").replace("</div>", "</div>\n<p>")
    return re.sub(r"<p>\s*</p>", "", text)


def finished(body: str) -> str:
    "What a reader with a keyboard, a small screen or no eyes needs and Sphinx leaves out"
    body = re.sub(r'<summary aria-label="Toggle hidden content">\s*<p class="collapsed[^>]*>(.*?)</p>.*?</summary>',
                  r"<summary>\1</summary>", body, flags=re.S)
    body = re.sub(r"<pre(?=[\s>])", '<pre tabindex="0"', body)
    body = re.sub(r"(<table(?=[\s>]).*?</table>)",
                  r'<div class="wide" tabindex="0" role="group" aria-label="Table">\1</div>', body, flags=re.S)
    body = re.sub(r"<p><strong>((?:Figure|Fig\.) [\w.]+?)(?=\.?</strong>)", r'<p class="caption"><strong>\1', body)
    body = re.sub(r"<blockquote>(?=\s*<div><p><strong>Departure)", '<blockquote class="departure">', body)
    body = body.replace('<a class="headerlink"', '<a class="headerlink" aria-label="Link to this section"')
    body = re.sub(r'title="Link to this (?:heading|term|table|image|code|definition|equation)"', "", body)
    body = re.sub(r"<th[^>]*>\s*(?:<p>\s*</p>|&nbsp;)?\s*</th>", "<td></td>", body)
    body = body.replace('<div class="math', '<div tabindex="0" class="math')
    body = re.sub(r"<p>(?=(?:(?!</p>).)*<div )(?:(?!</p>).)*</p>", _apart, body, flags=re.S)
    lead, mark, rest = body.partition("<img ")
    return lead + mark + rest.replace("<img ", '<img loading="lazy" ')


def _on_page(app, pagename, templatename, context, doctree) -> None:
    order, told = context["order"], context["titles"]
    if "body" in context: context["body"] = finished(context["body"])
    if pagename == "index":
        wide = '<p class="wide" tabindex="0" role="region" aria-label="Picture"><img'
        context["body"] = context["body"].replace("<p><img", wide, 1)
    at = order.index(pagename) if pagename in order else None
    near = {"before": order[at - 1] if at else None, "after": order[at + 1] if at + 1 < len(order) else None} \
        if at is not None else {}
    for name, doc in near.items():
        context[name] = doc and (app.builder.get_relative_uri(pagename, doc), told[doc])
    context["section"] = next((s for s, entries in context["listed"].items() if pagename in dict(entries)), "")
    context["source"] = source = context["sources"].get(pagename, "")
    context["open_in"] = opened_in(source, context["repo"], context["branch"])
    context["math"] = 'class="math' in context.get("body", "")


def _first_mentions(app, doctree, docname) -> None:
    "The first mention of a name of the package, and of a word of the glossary, leads to where it is explained"
    from docutils import nodes
    known, seen = app.config.mkdcls_known, set()
    def reference(text, doc, anchor, kind):
        ref = nodes.reference("", "", internal=True, refuri=f"{app.builder.get_relative_uri(docname, doc)}#{anchor}",
                              classes=[kind])
        ref += text
        return ref
    def apart(node):  # in a link or a heading already, or not in running words
        while node is not None:
            if isinstance(node, nodes.reference | nodes.title | nodes.literal_block | nodes.raw): return True
            node = node.parent
        return False
    for node in [*doctree.findall(nodes.literal)]:
        name = node.astext().removesuffix("()").split(".")[-1]
        doc, anchor = known["names"].get(name, ("", ""))
        # a plain word in code may be a command or an option, except on the pages that define such names
        if name.islower() and "_" not in name and not docname.startswith(("nbs/method", "nbs/verification")): continue
        if not doc or doc == docname or name in seen or apart(node): continue
        seen.add(name)
        node.replace_self(reference(node.deepcopy(), doc, nodes.make_id(anchor), "to-name"))
    if docname.startswith("mkdcls/") or docname in ("nbs/glossary", "CHANGELOG"): return
    for word, anchor in known["words"].items():
        for pattern in patterns(word):
            for node in [*doctree.findall(nodes.Text)]:
                if not isinstance(node.parent, nodes.paragraph) or not (m := re.search(pattern, str(node))): continue
                if apart(node.parent): continue
                text, parent = str(node), node.parent
                i = parent.index(node)
                parent.remove(node)
                parent.insert(i, [nodes.Text(text[:m.start()]),
                                  reference(nodes.Text(m[0]), "nbs/glossary", anchor, "to-word"),
                                  nodes.Text(text[m.end():])])
                break


def _before(app) -> None:
    put(Path(app.outdir) / "_static/mathjax/tex-svg.js", mathjax_script().read_bytes())
    # pictures of outputs lie beside the staged pages while the site is built, not beside _docs
    app.env.mystnb_config = app.env.mystnb_config.copy(
        output_folder=f"{app.srcdir}-outputs", execution_cache_path=f"{app.srcdir}-cache")


def setup(app) -> dict:
    "What Sphinx calls"
    app.add_config_value("mkdcls_known", {}, "html")
    app.add_config_value("mkdcls_made_by", "", "html")
    app.connect("builder-inited", _before, priority=900)  # after myst-nb has read its settings
    app.connect("doctree-resolved", _first_mentions)
    app.connect("html-page-context", _on_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def build_site(
    root: Path = ROOT,
    out: Path | None = None,  # folder of the site; _docs of the checkout
    stage: Path | None = None,  # folder of the staged sources; _proc/site of the checkout
    jobs: int = 2,
) -> list[str]:  # what Sphinx warned of; a whole site has none
    "Stage all pages and let Sphinx make HTML of them"
    from sphinx.application import Sphinx
    out, stage = (root / OUT if out is None else out), (root / STAGE if stage is None else stage)
    stage.mkdir(parents=True, exist_ok=True)
    pages, known = staged(root, stage)
    heard = open(stage.parent / f"{stage.name}-warnings.txt", "w+", encoding="utf-8")
    with heard:
        app = Sphinx(stage, None, out, stage.parent / f"{stage.name}-doctrees", "html",
                     confoverrides=configuration(pages, known), status=None, warning=heard, parallel=jobs)
        app.build()
        heard.seek(0)
        told = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in heard if line.strip()]
    kept = {out / f"{page.doc}.html" for page in pages} | {out / "search.html"}
    shutil.rmtree(out / "slides", ignore_errors=True)
    for old in {*out.rglob("*.html")} - kept: old.unlink()  # of a page that is gone
    if (root / MADE_SLIDES / "index.html").exists(): shutil.copytree(root / MADE_SLIDES, out / "slides")
    for page in pages:
        if page.source.suffix == ".ipynb": put(out / f"{page.doc}.ipynb", (root / page.source).read_bytes())
    put(out / ".nojekyll", "")  # folders that begin with an underscore are served
    shutil.rmtree(out / ".doctrees", ignore_errors=True)
    return told


def main(argv: list[str] | None = None) -> int:
    ap = argparse.ArgumentParser(prog="python -m mkdcls.publish.site", description="the site, into _docs/")
    ap.add_argument("--out", type=Path, help="folder of the site")
    ap.add_argument("--jobs", type=int, default=2, help="processes that read and write pages")
    args = ap.parse_args(argv)
    told = build_site(out=args.out, jobs=args.jobs)
    print("\n".join(told), file=sys.stderr, end="\n" if told else "")
    where = args.out or OUT
    print(f"{where}/index.html: {sum(1 for _ in (args.out or ROOT / OUT).rglob('*.html'))} pages")
    return int(bool(told))


if __name__ == "__main__": sys.exit(main())
