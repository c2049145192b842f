"""The command line: `mkdcls predict` and `export` for use, `prepare`, `validate`, `template`, `select` for corpora,
`table1` and `table` for results, `train` for one row, `grade` for the course; `make` calls the same."""
from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

MISTAKES = {"ValueError", "OSError", "FileNotFoundError", "PermissionError", "FloatingPointError", "FileExistsError",
            "IsADirectoryError",
            "BadCheckpoint"}  # told in one line, wherever they happen
RECUT = "not equal bit for bit"  # of adapters.rebuild_selection: there, but cut by another decoder
ASIDE = {"In", "Out", "exit", "quit", "open", "get_ipython", "check_parameters"}


def check_parameters(names: dict, known: tuple[str, ...]):
    """Called in a results notebook right after its parameters: a name that papermill brought and nobody reads is an
    error there, not a warning"""
    extra = sorted(n for n in names if not n.startswith("_") and n not in ASIDE and n not in known)
    if extra: raise ValueError(f"no parameter {', '.join(extra)} in this notebook; it takes {', '.join(known)}")
    out = names.get("out")
    if out and not Path(str(out)).expanduser().is_absolute():
        raise ValueError(f"out = {str(out)!r} would lie in {Path.cwd()}, where the notebook runs: "
                         "give a whole path, or leave it empty")


def relative(path: Path) -> str:
    "A path as a reader of the project sees it: from the project's root where it lies inside"
    from mkdcls.engine.store import PROJECT
    try: return Path(path).resolve().relative_to(PROJECT).as_posix()
    except ValueError: return Path(path).name


class Bars:
    "Progress on stderr, a bar for each piece of work that is going on"

    def __init__(self): self.bars = {}

    def __call__(self, what: str, done: int, of: int):
        from tqdm import tqdm
        if what not in self.bars:
            if of and done >= of: return
            self.bars[what] = tqdm(total=of, desc=what, file=sys.stderr, mininterval=1, ncols=90, leave=True)
        bar = self.bars[what]
        bar.total = of
        bar.update(done - bar.n)
        if done >= of: self.bars.pop(what).close()

    def close(self):
        for bar in self.bars.values(): bar.close()
        self.bars = {}


def strip(path: Path, page: Path | None = None, folder: Path | None = None):
    """Take out of an executed notebook what says nothing about the result: progress, times, paths of the machine.

    `page`: the folder of the notebook that was executed, if this copy will lie in another `folder` of the project:
    its links then lead from there to the same files.
    """
    import nbformat
    from mkdcls.engine.store import PROJECT, write_text
    from mkdcls.results.readme import relink
    nb, moved = nbformat.read(path, 4), None
    if page and folder and folder.resolve().is_relative_to(PROJECT):
        moved = [os.path.relpath(f.resolve(), PROJECT) for f in (page, folder)]
    nb.metadata = {k: nb.metadata[k] for k in ("kernelspec",) if k in nb.metadata}
    for cell in nb.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        if moved:
            if cell.cell_type == "markdown": cell.source = relink(cell.source, *moved)
            for shown in (o.data for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})):
                shown["text/markdown"] = relink(shown["text/markdown"], *moved)
        if "injected-parameters" in cell.metadata.get("tags", []):
            hidden = re.sub(r'(real|out|yours) = ".*"', r'\1 = "…"', cell.source)
            cell.source = re.sub(r'(corpus = ").*[/\\]', r"\1", hidden)
    write_text(Path(path), nbformat.writes(nb) + "\n")


def run_notebook(notebook: Path, target: Path, parameters: dict):
    """papermill, with unknown parameters refused before anything runs and output shown as it comes.

    A waiting OpenMP thread spins for a moment, then sleeps: sleeping at once makes small networks nearly twice as slow
    on an idle machine, spinning for long makes them several times slower on a busy one. Widgets are left out: a kept
    page cannot show them, and waiting for one has stopped a page for good.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("IN_TEST", "1")
    unknown = set(parameters) - set(papermill.inspect_notebook(str(notebook)))
    if unknown: raise ValueError(f"{notebook.name} takes no parameter {', '.join(sorted(unknown))}; see its first cell")
    part = target.with_name(f".{target.stem}.part.ipynb")
    try:
        papermill.execute_notebook(str(notebook), str(part), parameters, log_output=False, progress_bar=False,
                                   stdout_file=sys.stdout, stderr_file=sys.stderr,
                                   autosave_cell_every=60, cwd=str(notebook.parent), kernel_name="python3",
                                   extra_arguments=["--IPKernelApp.log_level=ERROR"])
    except DeadKernelError as e:
        print(file=sys.stderr)
        raise OSError("the notebook's process was ended from outside, mostly for want of memory: "
                      "what was finished is kept, and the same command with WORKERS=1 "
                      "goes on with less") from e
    except papermill.PapermillExecutionError as e:
        if e.ename not in MISTAKES: raise
        print(file=sys.stderr)  # ends a line that a progress bar may have left open
        raise ValueError(f"{e.evalue} (the page up to there, with the whole traceback: {part})") from e
    strip(part, notebook.parent, target.parent)
    part.replace(target)


def command_table(a):
    "A results sheet, from nothing"
    from mkdcls.results.report import default_folder
    from mkdcls.results.sheets import SHEETS, plans
    from mkdcls.engine.store import PROJECT, folder_at, home, writable
    from mkdcls.results.executors import SCHEDULER, scheduler_named
    from mkdcls.results.runner import SEEDS, count
    from mkdcls.runs import preset_of
    os.environ["MKDCLS_RUNS"] = str(home())  # the notebook runs in another folder: a relative path would lead elsewhere
    if a.sheet not in SHEETS: raise ValueError(f"SHEET={a.sheet}: choose one of {', '.join(SHEETS)}")
    preset_of(a.preset)
    if a.workers is not None: os.environ["MKDCLS_WORKERS"] = str(count(a.workers, "WORKERS"))
    count(a.seeds, "SEEDS", SEEDS)
    if a.scheduler: os.environ[SCHEDULER] = scheduler_named(a.scheduler)
    folder = a.out and folder_at(a.out, "OUT")
    for name in ("corpus", "real"):
        if "\0" in getattr(a, name): folder_at(getattr(a, name), name.upper())
    if a.corpus == "real" and not a.redraw and not Path(a.real).is_dir():
        raise ValueError("CORPUS=real needs REAL=<folder with accent_archive/ and common_voice/>; "
                         f"there is no folder {a.real!r}")
    if a.corpus == "real" and a.seeds + (a.first_seed or 0) > 5:
        raise ValueError("CORPUS=real has five folds, a seed each: SEEDS=1 to 5")
    if a.corpus not in ("standin", "real"):
        if not Path(a.corpus).exists():
            raise ValueError(f"CORPUS={a.corpus}: 'standin', 'real', a corpora file, or a folder that `mkdcls prepare` "
                             "wrote; for seo_kim and imu_elevoc "
                             "a file of lists; there is no such file")
        a.corpus = str(Path(a.corpus).resolve())
    bars = Bars()
    own = {k: v for k in ("yours", "epochs", "lr", "batch", "remedy") if (v := getattr(a, k)) not in (None, "")}
    if "yours" in own: own["yours"] = str(folder_at(own["yours"], "YOURS"))
    parts = plans(a.sheet, a.preset, a.seeds, a.corpus, str(Path(a.real).resolve()) if a.real else "", a.device,
                  progress=bars, **own)
    bars.close()
    runner = parts[0][0]
    named = getattr(runner, "results", runner.name)
    if a.continued and (a.redraw or a.rows or a.first_seed is not None):
        raise ValueError("CONTINUE=1 makes all that a sheet misses, then its tables: "
                         "leave REDRAW, ROWS and FIRST_SEED out")
    if a.redraw: return redraw(a, runner, Path(folder or default_folder(named)), own)
    if a.rows or a.first_seed is not None: return only_runs(a, parts, bars)
    p = runner.preset
    every = sum(len({*plan, *r.missing(plan)}) for r, plan in parts)  # with what these runs stand on
    folder = writable(folder or default_folder(named))
    if a.continued: parts = SHEETS[a.sheet].continued(parts, folder)
    missing = [job for r, plan in parts for job in r.missing(plan)]
    corpora = len({(seed, r.knobs.heard) for r, plan in parts for _, seed in r.missing(plan)})
    seconds = p.seconds[0] * corpora + p.seconds[1] * len(missing) if a.corpus == "standin" else 0
    minutes = -(-seconds // 60)
    estimate = (f"about {minutes} minute{'s' * (minutes != 1)} on two cores" if seconds
                else "no estimate for these corpora")
    then = SHEETS[a.sheet].after
    print(f"{SHEETS[a.sheet].title}: preset {a.preset}, corpus {a.corpus}, {a.seeds} seed(s), device {runner.device}.\n"
          f"{len(missing)} of {every} runs to do"
          + (f", {estimate}." if missing else "." if then else ": only the tables are written anew.") + then +
          f"\nRuns are kept in {home()}; results go to {folder}. Stop with Ctrl-C at any time: "
          "the same command goes on.\n", flush=True)
    if a.corpus not in ("standin", "real") or len(own) > ("yours" in own): tell_steps(runner)
    run_notebook(PROJECT / "nbs" / "results" / f"{a.sheet}.ipynb", folder / f"{a.sheet}.ipynb",
                 dict(preset=a.preset, seeds=a.seeds, corpus=a.corpus, real=runner.real, device=a.device,
                      out=str(folder), **({"continued": True} if a.continued else {}), **own))
    page = folder / f"{a.sheet}.md"
    print((f"\n{page.read_text(encoding='utf-8')}" if page.exists() else "") + f"\nEverything lies in {folder}:\n  "
          + "\n  ".join(sorted(str(f.relative_to(folder)) for f in folder.rglob("*")
                               if f.is_file() and not f.name.startswith("."))))


def only_runs(a, parts, bars: Bars):
    "Some runs of a sheet: each is kept, and tables are made by the same command without --rows and --first-seed"
    from mkdcls.engine.store import home
    from mkdcls.results.sheets import SHEETS, some_of
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("IN_TEST", "1")
    first = SHEETS[a.sheet].first if a.first_seed is None else a.first_seed
    parts = some_of(parts, a.rows, first, a.seeds)
    missing, asked = sum(len(r.missing(jobs)) for r, jobs in parts), sum(len(jobs) for _, jobs in parts)
    print(f"{SHEETS[a.sheet].title}: preset {a.preset}, corpus {a.corpus}, device {a.device}: {asked} runs asked for, "
          f"{missing} to do, with what they stand on. No tables are written.\n", flush=True)
    def say(text):
        bars.close()
        print(text, flush=True)
    try:
        for runner, jobs in parts:
            runner.say = say
            runner.run_all(jobs)
    finally: bars.close()
    print(f"Runs are kept in {home()}. The same command without --rows and --first-seed (ROWS, FIRST_SEED of make) "
          f"makes what is missing of SEEDS seeds from {SHEETS[a.sheet].first} on, and the tables.")


def tell_steps(runner):
    "How many steps the rows of a corpus will make, beside those of the stand-in at preset laptop"
    from mkdcls.runs import ROLES, preset_of
    if not hasattr(runner, "manifest"): return
    steps = lambda s, n: s.epochs * -(-n // s.batch)
    laptop = preset_of("laptop")
    for role in ROLES:
        rows = [r for r in runner.rows.values() if r.role == role]
        n = int((runner.manifest(role, 0)[0]["split"] == "train").sum())
        made = sorted({steps(r.settings, n) for r in rows})
        if made: print(f"  {role}: {n:,} training utterances, {' or '.join(f'{m:,}' for m in made)} steps a row")
    usual = int(.8 * 3600)
    print(f"  (stand-in at preset laptop: {steps(laptop.ecapa, usual)} or {steps(laptop.resnet, usual)} steps. With a "
          "third of them, base answered nearly everybody\n  with the commonest class on real speech, page 13; EPOCHS= "
          "and BATCH= change the number.)\n", flush=True)


def redraw(a, runner, folder: Path, own: dict):
    "A sheet's tables, pictures and page from the records in its folder"
    from mkdcls.engine.store import PROJECT
    from mkdcls.results.sheets import SHEETS
    jobs = SHEETS[a.sheet].recorded(folder)
    seeds = len({seed for _, seed in jobs})
    print(f"{SHEETS[a.sheet].title}: drawn from the {SHEETS[a.sheet].count(folder)} runs recorded in {folder}, "
          f"{seeds} seed(s); nothing is trained.\n", flush=True)
    run_notebook(PROJECT / "nbs" / "results" / f"{a.sheet}.ipynb", folder / f"{a.sheet}.ipynb",
                 dict(preset=a.preset, seeds=seeds, corpus=a.corpus, real=runner.real, device=a.device, out=str(folder),
                      redraw=True, **own))


def command_train(a) -> int:
    "One row, by this process or by all that `accelerate launch` started"
    from mkdcls.engine.store import home
    from mkdcls.results.accelerated import first_process
    from mkdcls.results.accelerated_runner import train_row
    from mkdcls.results.sheets import check_schedule
    bars = Bars()
    def say(text):
        bars.close()
        print(text, flush=True)
    try:
        schedule = {k: v for k in ("epochs", "lr", "batch") if (v := getattr(a, k)) is not None}
        check_schedule(**schedule)
        record = train_row(a.row, a.seed, a.preset, a.corpus, a.real, a.device, a.accumulation, say, bars,
                           yours=a.yours, schedule=schedule)
    except (ValueError, FloatingPointError):
        if first_process(): raise
        return 2  # every process meets it, one tells it
    finally: bars.close()
    if first_process(): print(f"row {a.row}, seed {a.seed}, key {record['key']}: " + ", ".join(
        f"{n} {v:.1f}" for n, v in record["metrics"].items() if n.endswith("_f1")) + f"\nIt is kept in {home()}; "
        "the same command again makes nothing anew.")
    return 0


def command_prepare(a) -> int:
    "A corpus as downloaded into prepared audio and its manifest"
    from mkdcls.intake.corpora import about_prepared, prepare_corpus
    bars = Bars()
    def say(text):
        bars.close()
        print(text, flush=True)
    try: out = prepare_corpus(a.corpus, a.folder, a.out, a.workers, a.seed, a.fractions, a.by, progress=bars, say=say)
    finally: bars.close()
    faults = about_prepared(out)["faults"]
    if faults:
        print(f"{faults:,} of the others are faulty, not merely outside the classes; "
              "prepared is what is sound (exit code 1).")
    return int(faults > 0)


def command_validate(a) -> int:
    "Every file of a manifest, a list or a prepared folder"
    from mkdcls.intake.corpora import validate_manifest
    bars = Bars()
    try: report, code = validate_manifest(a.manifest, a.workers, a.out, progress=bars)
    finally: bars.close()
    print(report)
    return code


def command_template(a):
    "An example list of one's own recordings"
    from mkdcls.corpora import own_template
    print(f"{own_template(a.csv)} is an example to fill in; then: mkdcls prepare own {a.csv} --out <folder>")


def command_select(a) -> int:
    "The recordings behind the committed results on real speech, from the public downloads"
    from mkdcls.adapters import rebuild_selection
    from mkdcls.engine.lists import printable
    from mkdcls.engine.store import PROJECT
    selection = Path(a.selection or PROJECT / "paper" / "selection" / "real.csv")
    if not selection.is_file():
        raise FileNotFoundError(f"no selection list {selection}: give the list of a checkout, "
                                "paper/selection/real.csv, with --selection")
    wrong = rebuild_selection(selection, a.common_voice, a.accent_archive, Path(a.out))
    gone = wrong[wrong["problem"] != RECUT]
    print(f"Written to {a.out}; for the real columns: make table1 CORPUS=real REAL={a.out}")
    if recut := len(wrong) - len(gone):
        print(f"{recut:,} pieces of the Speech Accent Archive were cut anew and are not equal bit for bit: "
              "compare scores, do not expect the same.")
    if len(gone):
        print(f"{len(gone):,} files are not as listed and were left out:\n{gone.map(printable).to_string(index=False)}")
    return int(len(gone) > 0)


# ---- use

def _told(t) -> str:
    "Answers as a table for a reader: an answer that is withheld shows what the best guess would have been"
    from mkdcls.engine.card import TASK_WORDS
    from mkdcls.use import UNSURE
    def one(r, task):
        if not isinstance(r[task], str): return ""
        p = f"{100 * r[f'{task}_p']:.0f} %"
        return f"unsure ({r[f'{task}_best']} {p})" if r[task] == UNSURE else f"{r[task]} {p}"
    tasks = [c.removesuffix("_best") for c in t.columns if c.endswith("_best")]
    rows = [["recording", "seconds", *(TASK_WORDS.get(c, c) for c in tasks), "note"]]
    rows += [[r["file"], f"{r['seconds']:.1f}", *(one(r, c) for c in tasks), r["note"]]
             for _, r in t[t["reason"] == ""].iterrows()]
    if not any(r[-1] for r in rows[1:]): rows = [r[:-1] for r in rows]
    wide = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(r, wide)).rstrip() for r in rows)


def command_predict(a) -> int:
    "Gender, age group and decade of recordings"
    from mkdcls.engine.lists import cell
    from mkdcls.engine.store import write_text
    from mkdcls.use import STANDIN, load_model
    model, bars = load_model(a.model or STANDIN), Bars()
    a.format = a.format or {".csv": "csv", ".json": "json"}.get(Path(a.out).suffix.lower(), "table")
    def say(text): print(f"mkdcls predict: {text}", file=sys.stderr, flush=True)
    if synthetic := model.about["trained"].get("corpus") == "standin":
        say(f"{model.about['name']} has heard synthetic speech only: "
            + ("what it says about a real voice has never been measured" if a.model else
               "of real voices it takes nearly all for over 60, however sure it says it is"))
    if not model.about["calibration"]:
        say(f"{model.about['name']} is not calibrated: take its probabilities with a grain of salt")
    show = (lambda done, of: bars("recordings", done, of)) if sys.stderr.isatty() else (lambda done, of: None)
    try: found = model.predict(a.recordings, a.channel, every=a.format != "table", progress=show, say=say)
    finally: bars.close()
    wrong = found[found["reason"] != ""]
    found["model"] = model.about["name"] + ", synthetic speech only" * synthetic
    if a.format == "csv":
        text = [c for c in found if not found[c].dtype.kind == "f"]
        safe = found.assign(**{c: found[c].map(lambda v: cell(v) if isinstance(v, str) else v) for c in text})
        out = safe.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    elif a.format == "json":
        out = found.to_json(orient="records", force_ascii=False, indent=1, double_precision=4) + "\n"
    else: out = _told(found) + "\n" if len(wrong) < len(found) else ""
    if a.out: write_text(Path(a.out), out)
    else: print(out, end="", flush=True)
    for _, r in wrong.iterrows(): print(f"{r['file']}: {r['reason']}", file=sys.stderr)
    return 2 if len(wrong) == len(found) else int(len(wrong) > 0)


def command_grade(a) -> int:
    "Marks for a folder of submissions of the course"
    from mkdcls.course.grading import grade_folder
    return grade_folder(a.folder, a.lesson, a.seconds, a.out)


def command_export(a):
    "A finished run as a model that stands by itself"
    from mkdcls.results.export import export_run
    bars = Bars()
    try:
        out = export_run(a.run, a.out, a.preset, a.corpus, a.real, a.name, a.half, a.onnx, a.right,
                         say=lambda text: print(text, flush=True),
                         progress=lambda done, of: bars("validation speakers", done, of))
    finally: bars.close()
    print(f"{out} is a model: mkdcls predict <recordings> --model {a.out}\nRead its README.md: who it was trained on, "
          "how sure it may be, what it is not for.")


def _number(text: str) -> int | None:
    if not text: return None  # WORKERS= of make, left empty
    try: return int(text)
    except ValueError: raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _names(text: str) -> tuple[str, ...]: return tuple(n.strip() for n in text.split(",") if n.strip())


def _real(text: str) -> float | None:
    if not text: return None
    try: return float(text)
    except ValueError: raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _shares(text: str) -> tuple[float, ...]:
    try: return tuple(float(p) for p in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers with commas between, as 0.8,0.1,0.1") from None


class Parser(argparse.ArgumentParser):
    "A mistake is one line"
    def error(self, message: str): self.exit(2, f"{self.prog}: {message} (`{self.prog} --help` lists what it takes)\n")


def parser() -> argparse.ArgumentParser:
    "All commands and their options"
    from mkdcls.results.sheets import SHEETS
    top = Parser(prog="mkdcls", description="A paper you can run.")
    sub = top.add_subparsers(dest="command", required=True)
    for name, text in (("table1", "regenerate Table 1"),
                       ("table", "regenerate a results sheet: Table 1, ablations, interventions, …")):
        t = sub.add_parser(name, help=text)
        if name == "table": t.add_argument("--sheet", required=True, help=f"one of {', '.join(SHEETS)}")
        else: t.set_defaults(sheet=name)
        t.add_argument("--preset", default="laptop", help="smoke, laptop (default), gpu or paper")
        t.add_argument("--seeds", type=int, default=1, help="how many seeds, from 0 (default 1; 5 for a status)")
        t.add_argument("--corpus", default="standin",
                       help="standin (default), real, a corpora file (TOML), or a prepared folder, "
                       "which then plays every role but FCVE; for seo_kim and imu_elevoc a file of lists (page 28)")
        t.add_argument("--real", default="", help="with --corpus real: the folder of the recordings")
        t.add_argument("--device", default="auto", help="auto (default), cpu, cuda, or cuda:1 for the second GPU")
        t.add_argument("--out", default="", help="where results go; default paper/results/<corpus>-<preset>")
        t.add_argument("--workers", type=_number,
                       help="rows at a time on a CPU, each with its own memory (default: one a core, at most 4)")
        t.add_argument("--scheduler", default="",
                       help="of a Dask cluster that makes the runs, tcp://host:8786 or a scheduler file (page 13b)")
        t.add_argument("--rows", type=_names, default=(), help="only these, as 3,6: the runs alone, no tables")
        t.add_argument("--first-seed", type=_number, help="seeds from this one on: the runs alone, no tables")
        t.add_argument("--yours", default="",
                       help="a Python file of one's own (page 13a); its rows stand beside Table 1's")
        t.add_argument("--epochs", type=_number, help="in place of the preset's, for every row")
        t.add_argument("--lr", type=_real, help="in place of the preset's, for every row")
        t.add_argument("--batch", type=_number, help="in place of the preset's, for every row")
        t.add_argument("--remedy", default="", help="against studio sound that tells the age (page 16), for every "
                       "student: line, or another as name or name:strength")
        t.add_argument("--redraw", action="store_true",
                       help="train nothing: tables, pictures and page from the records in the results folder")
        t.add_argument("--continue", dest="continued", action="store_true",
                       help="what the results folder records counts as done, wherever it was run; "
                            "only what is missing is run, and joins it (decisive, regime)")
        t.set_defaults(call=command_table)
    o = sub.add_parser("train", help="one row of Table 1 alone, on several processes with `accelerate launch`",
                       epilog="Several GPUs: accelerate launch --multi_gpu --num_processes 4 -m mkdcls train 6. "
                              "Several processes of a CPU: the same with --device cpu at the end. "
                              "bfloat16: --mixed_precision bf16 before -m. See page 11.")
    o.add_argument("row", help="as 3 or 6; what it stands on is trained first, the same way, where it is missing")
    o.add_argument("--seed", type=int, default=0, help="of the run (default 0)")
    o.add_argument("--preset", default="laptop", help="smoke, laptop (default), gpu or paper")
    o.add_argument("--corpus", default="standin", help="standin (default), real, or as table1 takes it")
    o.add_argument("--real", default="", help="with --corpus real: the folder of the recordings")
    o.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    o.add_argument("--accumulation", type=int, default=1,
                   help="parts of a batch, one after the other, for want of memory (default 1; "
                        "the batch stays what the preset says)")
    o.add_argument("--yours", default="", help="a Python file of one's own (page 13a)")
    o.add_argument("--epochs", type=_number, help="in place of the preset's")
    o.add_argument("--lr", type=_real, help="in place of the preset's")
    o.add_argument("--batch", type=_number, help="in place of the preset's")
    o.set_defaults(call=command_train)
    p = sub.add_parser("prepare", help="a corpus as downloaded → prepared audio and its manifest",
                       epilog="Exit code: 0 clean; 1 finished, but faulty files were found and left out (report.md, "
                              "dropped.csv); 2 nothing could be done; 130 stopped.")
    p.add_argument("corpus", help="aihub109, aihub107, aihub571, common_voice, accent_archive, audiomnist, or own")
    p.add_argument("folder",
                   help="the corpus as downloaded: a folder or one archive; for own, the list (CSV or Parquet)")
    p.add_argument("--out", required=True,
                   help="a folder of its own for what is made; the same command goes on where it was stopped")
    p.add_argument("--workers", type=int, help="processes (default: one a core)")
    p.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    p.add_argument("--fractions", type=_shares, default=(.8, .1, .1),
                   help="shares of speakers in train, val, test (default 0.8,0.1,0.1)")
    p.add_argument("--by", default="speaker", choices=("speaker", "utterance"),
                   help="speaker (default); utterance lets voices leak, only to measure that")
    p.set_defaults(call=command_prepare)
    v = sub.add_parser("validate", help="open every file of a prepared folder, a manifest or a list",
                       epilog="Exit code: 0 clean, 1 faults found, 2 nothing could be done.")
    v.add_argument("manifest", help="a prepared folder, a manifest (Parquet, CSV), or a list of one's own")
    v.add_argument("--workers", type=int, help="processes (default: one a core)")
    v.add_argument("--out", default="",
                   help="a folder for report.md and dropped.csv (default: the report is only shown)")
    v.set_defaults(call=command_validate)
    e = sub.add_parser("template", help="write an example list of one's own recordings")
    e.add_argument("csv", help="the file to write; never overwritten")
    e.set_defaults(call=command_template)
    s = sub.add_parser("select",
                       help="rebuild the real recordings behind the committed results from the public downloads")
    s.add_argument("--common-voice", required=True, help="Common Voice 6.1 as downloaded: folder or archive")
    s.add_argument("--accent-archive", required=True, help="the Speech Accent Archive as downloaded: folder or archive")
    s.add_argument("--out", required=True, help="a new folder; REAL=<it> then serves make table1 CORPUS=real")
    s.add_argument("--selection", default="", help="another selection list (default: paper/selection/real.csv)")
    s.set_defaults(call=command_select)
    u = sub.add_parser("predict", help="gender, age group and decade of recordings, by a trained model",
                       epilog="Exit code: 0 all answered, 1 some could not be (each with its reason), "
                              "2 none could or nothing could be done.")
    u.add_argument("recordings", nargs="+", metavar="FILE",
                   help="WAV, FLAC, MP3, OGG, …; a folder or an archive of them; a list (.csv with a column path, "
                        ".txt); - for one recording or archive on "
                   "the standard input")
    u.add_argument("--model", default="", help="a folder that `mkdcls export` wrote (default: "
                                               "the stand-in model of this package, trained on synthetic speech)")
    u.add_argument("--format", default="", choices=("table", "csv", "json"),
                   help="default: what --out ends in, else table; csv and json have the probability of every class")
    u.add_argument("--out", default="", help="a file for the answers (default: they are printed)")
    u.add_argument("--channel", type=int, help="which channel of recordings with several, counted from 1")
    u.set_defaults(call=command_predict)
    x = sub.add_parser("export", help="write a finished run as a model folder that needs neither corpus nor run store")
    x.add_argument("run", help="the folder of a run, or row/seed, as 6/0, in the store of --preset and --corpus")
    x.add_argument("--out", required=True, help="a new folder")
    x.add_argument("--preset", default="laptop", help="of the store (default laptop)")
    x.add_argument("--corpus", default="standin", help="of the store: standin (default), real, "
                                                       "or as it was given to table1; "
                                                       "validation speakers are heard from it")
    x.add_argument("--real", default="", help="with --corpus real: the folder of the recordings")
    x.add_argument("--name", default="", help="what the model is called (default: the folder's name)")
    x.add_argument("--half", action="store_true", help="keep weights in half precision: half the size")
    x.add_argument("--onnx", action="store_true", help="also model.onnx, which needs the extra `export`")
    x.add_argument("--right", type=float, default=.75, help="share of the given answers that should be right, "
                                                            "on validation speakers (default 0.75); the rest is unsure")
    x.set_defaults(call=command_export)
    g = sub.add_parser("grade", help="marks for a folder of notebooks that students of the course handed in",
                       epilog="Exit code: 0 all were run, 1 some could not be (the table says why), "
                              "2 nothing could be done.")
    g.add_argument("folder", help="holds the notebooks, in any depth")
    g.add_argument("--lesson", default="", help="its number (default: read off each notebook)")
    g.add_argument("--seconds", type=int, default=300, help="that each may take (default 300)")
    g.add_argument("--out", default="grades.csv",
                   help="a line a submission; a line an answer goes to grades-answers.csv")
    g.set_defaults(call=command_grade)
    return top


def _stopped(command: str) -> int:
    print("\nStopped." + " What was finished is kept; the same command goes on from there."
          * (command in ("table1", "table", "train", "prepare")), file=sys.stderr)
    return 130


def main(argv: list[str] | None = None) -> int:
    "Run a command; a mistake of the user's is one line and exit code 2, an interrupt is 130"
    a = parser().parse_args(argv)
    try: return a.call(a) or 0
    except KeyboardInterrupt: return _stopped(a.command)
    except BrokenPipeError:  # `mkdcls validate … | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError) as e:
        print(f"mkdcls {a.command}: {e}", file=sys.stderr)
        return 2
    except Exception as e:  # papermill's report of a cell that failed, with the notebook's own error in it
        if not hasattr(e, "ename"): raise
        if e.ename == "KeyboardInterrupt": return _stopped(a.command)
        print(f"\nmkdcls {a.command}: the notebook stopped with {e.ename}: {e.evalue}\n"
              "What was finished is kept; mend this and run the same command again.", file=sys.stderr)
        return 1


if __name__ == "__main__": sys.exit(main())
