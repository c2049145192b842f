"""`make slides`: from the tagged cells of each lesson one HTML file that needs nothing but a browser.

A cell tagged `slide` begins a slide, `slide-more` continues it. Text is shown as text, of code only the kept outputs
are shown (with `slide-code` the code too). Formulas become pictures, so that no script has to be fetched.
"""
from __future__ import annotations

import base64
import html
import io
import re
import sys
from pathlib import Path

from mkdcls.course.twins import read_lesson, sources, tags_of, text_of
from mkdcls.engine.store import PROJECT, write_text

SLIDES = PROJECT / "_course" / "slides"
MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])", re.S)

SLIDE_STYLE = """
:root { color-scheme: light; --size: clamp(17px, 2.3vw, 30px); }
* { box-sizing: border-box; }
html { scroll-snap-type: y mandatory;
  font: var(--size)/1.4 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
body { margin: 0; color: #1b1b1b; background: #fff; }
section { scroll-snap-align: start; min-height: 100vh; height: 100vh; overflow: hidden;
  padding: 4vh 6vw 7vh; position: relative;
  display: flex; flex-direction: column; justify-content: center; font-size: calc(1em*var(--fit, 1)); outline: none; }
section > * { margin: .3em 0; max-width: 100%; }
h1 { font-size: 2em; } h2 { font-size: 1.5em; } h3 { font-size: 1.2em; }
h1, h2, h3 { line-height: 1.15; color: #014f7c; }
section h1:first-child { margin-bottom: .1em; }
blockquote { margin-left: 0; padding-left: .8em; border-left: .25em solid #0173b2; color: #333; }
img.out { display: block; width: 100%; max-height: calc(68vh*var(--fit, 1)); object-fit: contain; margin: 0 auto; }
section.list { height: auto; overflow: visible; font-size: .8em; }
img.math { height: auto; } p.math { text-align: center; }
em { color: #444; } a { color: inherit; }
table { border-collapse: collapse; font-size: .85em; }
th, td { padding: .2em .7em; border-bottom: 1px solid #bbb; text-align: left; }
pre { font-size: .72em; background: #f5f5f5; padding: .6em .8em; overflow-x: auto; border-radius: .3em; }
code { font-size: .9em; background: #f2f2f2; padding: 0 .2em; } pre code { background: none; padding: 0; }
audio { width: min(100%, 24em); } figure { margin: .2em 0; }
footer { position: absolute; right: 2vw; bottom: 1.5vh; left: 6vw; font-size: 14px; color: #555; display: flex;
  justify-content: space-between; }
@media (max-width: 760px) {
  html { scroll-snap-type: none; }
  section { height: auto; min-height: 0; padding: 1.2em 1em 3em; border-bottom: 4px solid #e4e4e4; }
  section > *, table { max-width: 100%; } table { display: block; overflow-x: auto; }
  section.list { font-size: 1em; }
  .wide { overflow-x: auto; } img.out { width: max(100%, calc(.7px*var(--w))); max-width: none; max-height: none; }
  footer { left: 1em; } p.math { overflow-x: auto; }
}
@media print { section { break-after: page; height: 100vh; } }
"""
SCRIPT = """
const slides = [...document.querySelectorAll('section')];
const now = () => slides.reduce((a, s, i) => Math.abs(s.getBoundingClientRect().top) <
  Math.abs(slides[a].getBoundingClientRect().top) - 1 ? i : a, 0);
function show(i) { const s = slides[Math.max(0, Math.min(slides.length - 1, i))];
  s.scrollIntoView(); s.focus({preventScroll: true}); history.replaceState(null, '', '#' + s.id); }
addEventListener('keydown', e => {
  if (e.altKey || e.ctrlKey || e.metaKey || e.target.closest('audio, a, input')) return;
  const at = now(), to = {ArrowRight: at + 1, ArrowDown: at + 1, PageDown: at + 1,
    ' ': at + (e.shiftKey ? -1 : 1), ArrowLeft: at - 1, ArrowUp: at - 1, PageUp: at - 1, Home: 0,
    End: slides.length - 1}[e.key];
  if (to === undefined) return; e.preventDefault(); show(to); });
function fit() { for (const s of slides) { let f = 1; s.style.setProperty('--fit', f);
  if (innerWidth <= 760) continue;
  while (s.scrollHeight > s.clientHeight + 1 && f > .45) { f -= .05; s.style.setProperty('--fit', f.toFixed(2)); } } }
addEventListener('resize', fit);
addEventListener('load', () => { fit();
  if (location.hash) show(slides.findIndex(s => '#' + s.id === location.hash)); });
"""


def formula(tex: str, block: bool) -> str:
    "A formula as a picture in the text"
    import matplotlib as mpl
    from matplotlib import mathtext
    from matplotlib.font_manager import FontProperties
    tex = " ".join(tex.split())
    drawn = re.sub(r"\\(mathcal|mathrm|mathbf|mathbb|sqrt) (\w)", r"\\\1{\2}", tex)  # mathtext wants the braces
    with mpl.rc_context({"mathtext.fontset": "cm", "svg.hashsalt": "mkdcls", "svg.fonttype": "path"}):
        out = io.BytesIO()
        try: depth = mathtext.math_to_image(f"${drawn}$", out, dpi=72, format="svg", prop=FontProperties(size=20))
        except ValueError as e: raise ValueError(f"a slide's formula that cannot be drawn: {tex}") from e
    svg = re.sub(r"<metadata>.*?</metadata>", "", out.getvalue().decode(), flags=re.S)
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))
    data = base64.b64encode(svg.encode()).decode()
    style = f"width:{width/20:.3f}em;height:{height/20:.3f}em;vertical-align:{-depth/20:.3f}em"
    img = (f'<img class="math" alt="{html.escape(tex, quote=True)}" style="{style}" '
           f'src="data:image/svg+xml;base64,{data}">')
    return f'<p class="math">{img}</p>' if block else img


def prose(text: str) -> str:
    "Markdown → HTML; links into the project become plain words"
    from nbconvert.filters.markdown_mistune import markdown2html_mistune
    drawn = []

    def keep(m):
        drawn.append(formula(m[1] or m[2], bool(m[1])))
        return f"\n\nFORMULA{len(drawn) - 1}X\n\n" if m[1] else f"FORMULA{len(drawn) - 1}X"
    parts = re.split(r"(`+[^`]*`+)", text)  # no formulas within code
    text = "".join(p if p.startswith("`") else MATH.sub(keep, p) for p in parts)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:)[^)]*\)", r"\1", text)
    made = markdown2html_mistune(text)
    made = re.sub(r'<a class="anchor-link".*?</a>', "", made)
    made = re.sub(r"<p>\s*FORMULA(\d+)X\s*</p>", lambda m: drawn[int(m[1])], made)
    return re.sub(r"FORMULA(\d+)X", lambda m: drawn[int(m[1])], made)


def outputs_of(cell: dict, title: str) -> str:
    "What a slide shows of a code cell"
    parts = []
    if "slide-code" in tags_of(cell):
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
        parts.append(highlight(text_of(cell), PythonLexer(), HtmlFormatter(noclasses=True)))
    for out in cell.get("outputs", []):
        data = {k: "".join(v) if isinstance(v, list) else v for k, v in out.get("data", {}).items()}
        if "image/png" in data:
            png = data["image/png"].replace("\n", "")
            width = int.from_bytes(base64.b64decode(png)[16:20], "big")  # on a phone, wide pictures are scrolled
            parts.append(f'<div class="wide"><img class="out" style="--w:{width}" '
                         f'alt="{html.escape(title, quote=True)}" src="data:image/png;base64,{png}"></div>')
        elif "text/markdown" in data: parts.append(f"<div>{prose(data['text/markdown'])}</div>")
        elif "text/html" in data:
            parts.append(f"<div>{re.sub(r'<style.*?</style>', '', data['text/html'], flags=re.S)}</div>")
        elif "text/plain" in data: parts.append(f"<pre>{html.escape(data['text/plain'])}</pre>")
        elif out.get("name") == "stdout": parts.append(f"<pre>{html.escape(''.join(out['text']))}</pre>")
    return "\n".join(parts)


def slides_of(nb: dict) -> list[str]:
    "The slides of a lesson, as HTML"
    slides, title = [], ""
    for cell in nb["cells"]:
        tags = tags_of(cell)
        if not tags & {"slide", "slide-more"}: continue
        if cell["cell_type"] == "markdown":
            head = re.search(r"^#+ (.+)$", text_of(cell), re.M)
            title = head[1] if head else title
            made = prose(text_of(cell))
        else: made = outputs_of(cell, title)
        if "slide" in tags or not slides: slides.append(made)
        else: slides[-1] += "\n" + made
    return slides


def page(nb: dict) -> str:
    "A lesson's slides in one file"
    title = re.search(r"^# (.+)$", text_of(nb["cells"][0]), re.M)[1]
    slides = slides_of(nb)
    made = [f'<section id="s{i}" tabindex="-1" aria-label="slide {i} of {len(slides)}">\n{s}\n'
            f"<footer><span>{html.escape(title)}</span><span>{i} / {len(slides)}</span></footer></section>"
            for i, s in enumerate(slides, 1)]
    return document(title, "\n".join(made), SCRIPT)


def document(title: str, body: str, script: str = "") -> str:
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{SLIDE_STYLE}</style></head>\n'
            f"<body>\n{body}\n" + f"<script>{script}</script>" * bool(script) + "</body></html>\n")


def write_slides(folder: Path = SLIDES) -> list[Path]:
    "One file a lesson, and a list of them"
    folder.mkdir(parents=True, exist_ok=True)
    files, lines = [], []
    for path in sources():
        nb = read_lesson(path)
        files.append(folder / f"{path.stem}.html")
        write_text(files[-1], page(nb))
        head, line = text_of(nb["cells"][0]).split("\n", 1)
        said = html.escape(line.strip("\n> "))
        lines.append(f'<li><a href="{path.stem}.html">{html.escape(head.strip("# "))}</a>: {said}</li>')
    body = f"<section class=\"list\"><h1>The course</h1><ul>{''.join(lines)}</ul></section>"
    write_text(folder / "index.html", document("The course", body))
    return files


def main() -> int:
    for f in write_slides(): print(f"  {f.relative_to(PROJECT)}")
    return 0


if __name__ == "__main__": sys.exit(main())
