"""From a corpus as downloaded to prepared audio and its manifest: scanned, checked, converted, split; the same bytes
whatever the number of workers and however often it was stopped.

The work is cut into chunks of a fixed number of utterances. A chunk is one shard of audio (`engine.shards`) and one
table of facts, each written beside and renamed, the facts last: where they lie, the chunk is done. Everything after the
chunks (what they say of each other, the split, the manifest, the report) is a function of them and made anew by each
call.
"""
from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds

from mkdcls import __version__
from mkdcls.adapters import ADAPTERS, SAMPLE as REAL, UNTOLD
from mkdcls.corpora import (MANIFEST, check_manifest, label_reasons, open_prepared, parse_numbers, place_paths,
                            read_own_list, speaker_folds, split_speakers)
from mkdcls.engine import lists
from mkdcls.engine.archives import Tree, printable_name
from mkdcls.engine.codehash import module_hash
from mkdcls.engine.owned import Owned
from mkdcls.engine.pool import each, one_thread
from mkdcls.engine.shards import Shards, write_shard
from mkdcls.engine.store import differences, digest, home, writable, write_table, write_text
from mkdcls.validation import NOTES, cross_check, cross_details, inspect_audio, is_fault, report_text

CHUNK = 256  # utterances; what a stop may cost each worker
SAMPLE_FILES = 16  # files read before the work, to tell what it will take
SPARE = 1.1  # of the estimated room must be free
RATE, BYTES, SECONDS = 8000, 2, (1.0, 20.0)
CHANGED, DAMAGED = "samples differ from the checksum", "prepared file is damaged"
# what decides a chunk's bytes, with these libraries
CODE = ("mkdcls.validation", "mkdcls.engine.archives", "mkdcls.engine.shards")
LIBRARIES = ("numpy", "pyarrow", "soundfile", "soxr")
LISTED = ["utterance", "path", "reason", "detail"]  # how the report names a row
FACTS = {"at": "int64", "row": "int64", "duration": "float64", "source_rate": "float64", "channels": "float64",
         "clipped": "float64", "sha256": "str", "reason": "str", "detail": "str"}


# ---- work in chunks

def _each(work, jobs: list[tuple], workers: int):
    "`work(*job)` of every job, yielded as they are finished"
    return each(work, jobs, workers, one_thread)


def _count(workers: int | None, jobs: int) -> int:
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}: at least 1, or leave it out for one a core")
    return max(1, min(workers or min(os.cpu_count() or 1, 16), jobs))


@contextmanager
def _writing(*parts: Path):
    "A full or read-only disk in one line; nothing half written stays"
    try: yield
    except OSError as e:
        for p in parts: p.with_name(p.name + ".part").unlink(missing_ok=True)
        full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OSError(f"cannot write {parts[-1].name} ({e.strerror or e}). What was finished is kept: " +
                      ("make room" if full else "mend the disk or its permissions")
                      + ", and the same command goes on") from e


def _inspect(rows: pd.DataFrame) -> tuple[list, pd.DataFrame]:
    "The wave of each row, or None, and the facts of each row"
    waves, facts = [], []
    for r in rows.itertuples():
        wave, found, reason = inspect_audio(r.path, r.start_s, r.end_s, r.told_s, seconds=SECONDS, rate=RATE)
        waves.append(wave if reason == "" or reason in NOTES else None)
        facts.append(found | dict(at=r.Index, reason=reason, row=-1))
    return waves, pd.DataFrame(facts, columns=list(FACTS)).astype(FACTS)


def prepare_chunk(rows: pd.DataFrame, shard: Path, table: Path) -> int:
    "One chunk: audio, then facts"
    waves, facts = _inspect(rows)
    has = np.array([w is not None for w in waves])
    facts["row"] = np.where(has, has.cumsum() - 1, -1)  # in the shard
    with _writing(shard, table):
        write_shard(shard, [w for w in waves if w is not None])
        write_table(table, facts)
    return len(rows)


# ---- what a corpus holds, before any audio is decoded

_TAR = r"\.(?:tar|tgz|tar\.gz|tar\.bz2|tar\.xz)/"


def _names(paths: pd.Series, top: str) -> pd.Series:
    "The name of each file inside the corpus, the same on any machine; of one that lies elsewhere the last part"
    top = printable_name(top).rstrip("/") + "/"
    return paths.map(lambda p: printable_name(p).removeprefix(top) if printable_name(p).startswith(top)
                     else printable_name(p).rsplit("/", 1)[-1])


def _told_by(tree: Tree, rows: pd.DataFrame) -> pd.DataFrame:
    "Rows with the faults met while listing: at the file that they name, else in rows of their own"
    faults = {name: (reason, detail) for name, reason, detail in tree.faults if reason not in NOTES}
    at = rows["source"].map(lambda n: n in faults)
    rows.loc[at, "fault"], rows.loc[at, "detail"] = ([faults[n][i] for n in rows["source"][at]] for i in (0, 1))
    extra = [(name, *faults[name]) for name in sorted(faults.keys() - set(rows["source"]))]
    return (pd.concat([rows, pd.DataFrame(extra, columns=["source", "fault", "detail"])
                       .assign(utterance=lambda d: d["source"], speaker="", path="", age="", gender="")],
                      ignore_index=True) if extra else rows)


def _listing(name: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An adapter's rows in the order in which they are read, with every column the rest asks for, labels and
    reasons among them; and what is merely told"""
    if name not in ADAPTERS: raise ValueError(f"no adapter {name!r}: choose one of {', '.join(ADAPTERS)}")
    tree = None if name == "own" else Tree(folder)
    rows = ADAPTERS[name][0](tree or folder).reset_index(drop=True)
    told, rows.attrs = rows.attrs.get("note"), {}
    if not len(rows):
        raise ValueError(f"{name}: {folder} lists no utterance; is this the folder or archive of that corpus?")
    for column, default in (("start_s", np.nan), ("end_s", np.nan), ("told_s", np.nan), ("fault", ""), ("detail", "")):
        if column not in rows: rows[column] = default
    seconds = ["start_s", "end_s", "told_s"]
    rows[seconds] = rows[seconds].apply(pd.to_numeric, errors="coerce").astype(float)
    rows["path"] = rows["path"].map(os.path.abspath)
    rows["source"] = _names(rows["path"], tree.root if tree else os.path.dirname(os.path.abspath(folder)))
    notes = [(os.path.basename(folder), os.path.basename(folder), UNTOLD, told)] if told else []
    if tree:
        rows = _told_by(tree, rows)
        notes = [(name, name, reason, detail) for name, reason, detail in tree.faults if reason in NOTES]
    default = Path(folder).stem if name == "own" else ADAPTERS[name][1]
    rows["corpus"] = rows["corpus"].fillna("").replace("", default) if "corpus" in rows else default
    labels, reason = label_reasons(rows)
    said = rows["age"].where(reason.str.contains("age|under"), rows["gender"]).fillna("").astype(str)
    rows["detail"] = rows["detail"].where((rows["detail"] != "") | (reason == ""), said)
    rows = rows.drop(columns=["agesub", "agesup"], errors="ignore").assign(**labels, reason=reason)
    for column in ("utterance", "speaker"):
        rows[column] = rows["corpus"].astype(str) + "/" + rows[column].fillna("").astype(str)
    known = set(tree.names) if tree else set()
    rows["bytes"] = [tree.size(n) if n in known else np.nan
                     for n in rows["source"]] if tree else [_bytes(p) for p in rows["path"]]
    streamed = rows["path"].str.contains(_TAR, case=False)
    rows["rank"] = [tree.order(n) if s and n in known else -1 for n, s in zip(rows["source"], streamed)] if tree else -1
    rows = rows.sort_values(["rank", "utterance"], kind="stable", ignore_index=True)
    return rows, pd.DataFrame(notes, columns=LISTED)


def _bytes(path: str) -> float:
    try: return os.path.getsize(path)
    except OSError: return np.nan  # missing, or in an archive


def _divided(rows: pd.DataFrame, seed: int, fractions: tuple, by: str) -> pd.DataFrame:
    "With `split`, the list's own where it has one, and `fold`, where there are speakers enough"
    given = "split" in rows and (rows["split"].fillna("") != "").all()
    try: rows = rows if given else split_speakers(rows, fractions, seed, by)
    except ValueError as e:
        raise ValueError(f"{e}: --fractions 0.5,0,0.5 takes two speakers, and a column split (train, val, "
                         "test) in the list decides by itself") from e
    return rows.assign(fold=speaker_folds(rows, 5, seed)) if rows["speaker"].nunique() >= 5 else rows


def _state(name: str, todo: pd.DataFrame) -> dict:
    "What the chunks are made of and by; another state is another corpus"
    source = hashlib.sha256("\n".join(todo["source"]).encode())
    source.update(todo[["start_s", "end_s", "told_s", "bytes"]].to_numpy("<f8", copy=True).tobytes())
    return dict(adapter=name, utterances=len(todo), chunk=CHUNK, source=source.hexdigest(),
                code={m: module_hash(m) for m in CODE},
                libraries={m: version(m) for m in LIBRARIES})


# ---- what it will take

def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(n, 1e4) / 1e6:.2g} MB" if n < 1e8 else f"{n / 1e6:.0f} MB"


def _time(s: float) -> str: return f"{s:.0f} s" if s < 100 else f"{s / 60:.0f} min" if s < 6000 else f"{s / 3600:.1f} h"


def _seconds(rows: pd.DataFrame, heard: pd.DataFrame) -> float:
    """Of audio that will be kept: as the label files tell, else by the bytes of the source, else by the mean of the
    files that were read"""
    told = rows["told_s"].where(rows["told_s"].between(*SECONDS), 0).where(rows["told_s"].notna())
    if not heard["duration"].gt(0).any(): return float(told.sum())
    by_bytes = (rows["bytes"] * (heard["duration"].sum() / heard["bytes"].sum()) if heard["bytes"].gt(0).all()
                else pd.Series(np.nan, rows.index))
    return float(told.fillna(by_bytes.clip(upper=SECONDS[1])).fillna(heard["duration"].mean()).sum())


def _needs(rows: pd.DataFrame, workers: int) -> tuple[float, float]:
    "Bytes on disk and seconds of work, from a few files spread over the whole"
    sample = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, SAMPLE_FILES).astype(int))]
    took, heard = [], []
    for i in range(len(sample)):
        began = time.perf_counter()
        _, facts = _inspect(sample.iloc[[i]])
        took.append(time.perf_counter() - began)
        heard.append(facts["duration"].iloc[0])
    heard = sample.assign(duration=pd.Series(heard, sample.index, dtype=float).where(lambda d: d <= SECONDS[1], 0))
    heard = heard[heard["duration"] > 0]
    return _seconds(rows, heard) * RATE * BYTES + 150 * len(rows), float(np.median(took)) * len(rows) / workers


def _claim(out: Path, state: dict):
    "The folder for these chunks and no others"
    file = writable(out) / "chunks.json"
    if os.path.lexists(file):
        if changed := differences(_json(file, "chunk", "source"), state):
            raise ValueError(f"{out} was begun with something else ({lists.printable('; '.join(changed[:4]), 400)}): "
                             "choose another folder, or delete this one and begin anew")
    elif strange := sorted(p.name for p in out.iterdir() if not p.name.endswith(".part")):
        raise ValueError(f"{out} is not empty (it holds {', '.join(lists.printable(n, 60) for n in strange[:3])}): "
                         "choose a folder of its own for the prepared corpus")
    for p in (p for at in (out, out / "audio", out / "facts") if at.is_dir() for p in (at, *at.iterdir())):
        if p != out and (p.is_symlink() or p.parent == out and p.name in ("audio", "facts") and not p.is_dir()):
            raise ValueError(f"{lists.printable(p)} was not made by `mkdcls prepare`, it is a link or a file in the "
                             "way: remove it, or choose another folder")
    write_text(file, json.dumps(state, indent=1, sort_keys=True) + "\n")
    for part in ("audio", "facts"): (out / part).mkdir(exist_ok=True)


def _json(file: Path, *need: str) -> dict:
    "A record of a prepared folder, with the keys that are needed"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(said, dict): raise ValueError("it holds something else")
        if gone := [k for k in need if k not in said]: raise ValueError(f"{gone[0]} is missing")
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{lists.printable(file)} is not a whole record of `mkdcls prepare` "
                         f"({lists.printable(e, 80)}): "
                         "copy the folder again, or delete it and prepare the corpus anew") from e
    return said


def _whole(shard: Path) -> bool:
    "Is it there, and can it be opened? A damaged one is made anew"
    try: Shards(shard.parent).count(shard.name)
    except (OSError, ValueError): return False
    return True


# ---- what the chunks say

def _listed(rows: pd.DataFrame) -> pd.DataFrame:
    "Rows as the report names them"
    return rows.drop(columns="path", errors="ignore").rename(columns={"source": "path"})[LISTED]


def _judged(rows: pd.DataFrame, notes: pd.DataFrame, todo: pd.DataFrame,
            facts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All rows, notes on the whole, the rows that were opened, what was found → those kept

    As the report names them, those dropped and the notes.
    """
    facts = facts.set_index("at").sort_index()
    found = todo.drop(columns=facts.columns, errors="ignore").join(facts)
    sound = found[(found["reason"] == "") | found["reason"].isin(NOTES)]
    between = cross_check(sound)
    details, hit = cross_details(sound, between), between.index[between != ""]
    found.loc[hit, "reason"], found.loc[hit, "detail"] = between[hit], details[hit]
    told = found["reason"].isin(NOTES)
    kept = told | (found["reason"] == "")
    dropped = pd.concat([_listed(rows[rows["reason"] != ""]), _listed(found[~kept])])
    return (found[kept], dropped.sort_values(["path", "utterance"], kind="stable", ignore_index=True),
            pd.concat([notes, _listed(found[told])], ignore_index=True))


def _counts(table: pd.DataFrame) -> dict:
    return {k: int(v) for k, v in table["reason"].value_counts().sort_index().items()}


def _faults(dropped: pd.DataFrame) -> int: return sum(map(is_fault, dropped["reason"]))


def _manifest(kept: pd.DataFrame, seed: int, fractions: tuple, by: str) -> pd.DataFrame:
    m = kept.drop(columns=["path", "rate"],
                  errors="ignore").rename(columns={"source": "path", "sha256": "checksum", "source_rate": "rate"})
    m = _divided(m, seed, fractions, by)
    return m[[c for c in MANIFEST.columns if c == "age" or c in m and m[c].notna().any()]].reset_index(drop=True)


def _facts(files: list[Path]) -> pd.DataFrame:
    try: facts = ds.dataset([str(f) for f in files], format="parquet").to_table().to_pandas()
    except (OSError, ValueError) as e:
        raise ValueError(f"a table of facts cannot be read ({lists.printable(e, 300)}): delete that file and run the "
                         "same command; only its chunk is made anew") from e
    if set(FACTS) <= set(facts) and np.array_equal(facts["at"],
                                                   np.arange(len(facts))) and len(facts) > CHUNK * (len(files) - 1):
        # what a table lacks comes as nothing
        if not facts.loc[facts["row"] >= 0, list(FACTS)].isna().any(axis=None): return facts
    for i, f in enumerate(files):
        one = pd.read_parquet(f)
        most = CHUNK if i < len(files) - 1 else len(one)
        if not set(FACTS) <= set(one) or not np.array_equal(one["at"], np.arange(CHUNK * i, CHUNK * i + most)):
            raise ValueError(f"{lists.printable(f)} holds the facts of another chunk or version: "
                             "delete that file and run the same command; only its chunk is made anew")
    return facts


# ---- the two things to call

def prepare_corpus(
    name: str,  # an adapter's: aihub109, aihub107, aihub571, common_voice, accent_archive, audiomnist, own
    folder,  # the corpus as downloaded: a folder or one archive; for `own` the list
    out,  # a folder of its own for what is made
    workers: int | None = None,  # processes; None: one a core
    seed: int = 0,  # of the split
    fractions: tuple = (.8, .1, .1),  # shares of speakers in train, val, test
    by: str = "speaker",  # 'utterance' leaks voices across splits: only for measuring that
    progress=lambda what, done, of: None,  # called often
    say=print,  # receives one line for each thing worth knowing
) -> Path:  # `out`
    """Scan, check, convert, split; resumable. Leaves `manifest.parquet`, `audio/`, `report.md`, `dropped.csv`,
    `corpus.json`; and for resuming, `chunks.json` and `facts/`. Another split of the same corpus decodes nothing
    anew."""
    folder, out, fractions = Path(folder), Path(out), tuple(fractions)
    say(f"Reading the labels of {folder} ...")
    rows, notes = _listing(name, folder)
    todo = rows[rows["reason"] == ""].reset_index(drop=True)
    if not len(todo): raise ValueError(f"{name}: none of {len(rows):,} utterances has usable labels ({_counts(rows)})")
    # better now than after hours of decoding
    check_manifest(_divided(todo.assign(duration=1.0), seed, fractions, by), leaky=by == "utterance")
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out} lies inside {folder}: choose a folder outside the recordings")
    _claim(out, _state(name, todo))
    begins = range(0, len(todo), CHUNK)
    files = [(out / "audio" / f"{i:05d}.arrow", out / "facts" / f"{i:05d}.parquet") for i in range(len(begins))]
    read = todo[["path", "start_s", "end_s", "told_s", "bytes"]]
    jobs = [(read[i:i + CHUNK], *f) for i, f in zip(begins, files) if not (f[1].exists() and _whole(f[0]))]
    if jobs: _decode(jobs, len(rows), len(todo), out, workers, progress, say)
    return _finish(name, rows, notes, todo, files, out, seed, fractions, by, say)


def _decode(jobs, listed, usable, out, workers, progress, say):
    left = sum(len(j[0]) for j in jobs)
    workers = _count(workers, len(jobs))
    room, seconds = _needs(pd.concat([j[0] for j in jobs]), workers)
    free = shutil.disk_usage(out).free
    say(f"{listed:,} utterances, {usable:,} with usable labels"
        + (f", {usable - left:,} of them done before" if left < usable else "") +
        f".\nTo do: {left:,} files, about {_size(room)} on disk ({_size(free)} free), about {_time(seconds)} with "
        f"{workers} worker{'s'[:workers > 1]}."
        "\nStop at any time: the same command goes on.")
    if free < SPARE * room:
        raise ValueError(f"{out} has {_size(free)} free and this takes about {_size(room)}, "
                         f"with a reserve {_size(SPARE * room)}: make room or choose another disk")
    done = usable - left
    progress("decode and check", done, usable)
    for n in _each(prepare_chunk, jobs, workers):
        done += n
        progress("decode and check", done, usable)


def _finish(name, rows, notes, todo, files, out, seed, fractions, by, say) -> Path:
    shards = np.repeat([shard.name for shard, _ in files], CHUNK)[:len(todo)]
    kept, dropped, notes = _judged(rows, notes, todo.assign(shard=shards), _facts([f for _, f in files]))
    corpus = " + ".join(sorted(rows["corpus"].unique()))
    # written last: a folder with one is whole
    with _writing(out / "corpus.json"): (out / "corpus.json").unlink(missing_ok=True)
    wrong = None
    if len(kept):
        try: manifest = check_manifest(_manifest(kept, seed, fractions, by), leaky=by == "utterance")
        except ValueError as e: manifest, wrong = kept, e
    else: manifest, wrong = kept, "nothing is left to divide: paths are looked up from the list's own folder"
    _write_found(out, report_text(corpus, len(rows), manifest, dropped, notes), dropped)
    if wrong:
        raise ValueError(f"{len(kept):,} of {len(rows):,} utterances are sound ({_counts(dropped)}; "
                         f"see {out / 'report.md'}), but {wrong}")
    with _writing(out / "manifest.parquet"): write_table(out / "manifest.parquet", manifest)
    about = dict(name=corpus, adapter=name, listed=len(rows), utterances=len(manifest),
                 speakers=int(manifest["speaker"].nunique()),
                 hours=round(float(manifest["duration"].sum()) / 3600, 3),
                 splits={s: int(n) for s, n in manifest["split"].value_counts().sort_index().items()},
                 dropped=_counts(dropped), notes=_counts(notes), faults=_faults(dropped), seed=seed,
                 fractions=list(fractions), by=by,
                 libraries={m: version(m) for m in (*LIBRARIES, "pandas")}, mkdcls=__version__)
    with _writing(out / "corpus.json"):
        write_text(out / "corpus.json", json.dumps(about, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    say(f"{len(manifest):,} of {len(rows):,} utterances are ready in {out}; {out / 'report.md'} says what was found")
    return out


def _write_found(folder: Path, report: str, dropped: pd.DataFrame):
    with _writing(folder / "dropped.csv"): write_text(folder / "dropped.csv", _dropped_csv(dropped))
    with _writing(folder / "report.md"): write_text(folder / "report.md", report)


def _dropped_csv(dropped: pd.DataFrame) -> str:
    """A line for each row left out

    Cells that a spreadsheet would run begin with an apostrophe, what a terminal obeys is escaped (`engine.lists.cell`).
    """
    return dropped.fillna("").map(lists.cell).to_csv(index=False, lineterminator="\n")


def about_prepared(folder) -> dict:
    "`corpus.json` of a prepared folder"
    file = Path(folder) / "corpus.json"
    if not file.is_file():
        raise ValueError(f"{folder} is not a prepared corpus (no corpus.json): run `mkdcls prepare`; "
                         "the same command finishes one that was stopped")
    return _json(file, "name", "utterances", "faults")


def _gathered(work, jobs, of, workers, progress) -> pd.DataFrame:
    parts, done = [], 0
    progress("open and check", 0, of)
    for part in _each(work, jobs, _count(workers, len(jobs))):
        parts.append(part)
        progress("open and check", done := done + len(part), of)
    return pd.concat(parts)


def _verify(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    "Rows of one shard, with the reason where it does not hold what the manifest says"
    shards, reasons = Shards(folder), []
    for r in rows.itertuples():
        try: reason = "" if hashlib.sha256(shards.read(r.shard, int(r.row))).hexdigest() == r.checksum else CHANGED
        except OSError: reason = "audio missing"
        except (ValueError, IndexError): reason = "audio is truncated"
        reasons.append(reason)
    return rows.assign(reason=reasons, detail=rows["shard"])


def _prepared_rows(folder: Path) -> pd.DataFrame:
    "The manifest of a prepared folder, as far as `_verify` needs it"
    file = folder / "manifest.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{lists.printable(file)} is not there: copy the folder again, "
                                "or run the same `mkdcls prepare` again")
    rows = lists.read_parquet(file)
    need = ("utterance", "speaker", "gender", "agesub", "duration", "path", "shard", "row", "checksum")
    if gone := [c for c in need if c not in rows]:
        raise ValueError(f"{lists.printable(file)} is no manifest of `mkdcls prepare`: columns {gone} are missing; "
                         "prepare the corpus anew")
    if not len(rows):
        raise ValueError(f"{lists.printable(file)} has no rows: copy the folder again, "
                         "or run the same `mkdcls prepare` again")
    shard = rows["shard"].astype(str)
    odd = ~shard.str.fullmatch(r"\d+\.arrow") | pd.to_numeric(rows["row"], errors="coerce").isna()
    if odd.any():
        place = (f"the shard {lists.printable(shard[odd].iloc[0], 60)!r}, row {rows['row'][odd].iloc[0]}, "
                 f"for {lists.few(rows['utterance'][odd], 3)}")
        raise ValueError(f"{lists.printable(file)} names {place}: that is no place in audio/; copy the folder again, "
                         "or prepare the corpus anew")
    return rows.rename(columns={"path": "source"})


def _beside(folder: Path, about: dict, rows: pd.DataFrame) -> pd.DataFrame:
    "What is wrong with a prepared folder's other files, a row for each, as `_verify` gives them"
    wrong = {}
    if about["utterances"] != len(rows):
        wrong["corpus.json"] = (f"it tells of {lists.printable(about['utterances'], 40)} utterances, "
                                f"the manifest of {len(rows):,}")
    number = 0
    try:
        todo = _json(folder / "chunks.json", "chunk", "utterances")["utterances"]
        if not isinstance(todo, int) or not 0 < todo < 10**9: raise ValueError(todo)
        number = -(-todo // CHUNK)
    except FileNotFoundError: wrong["chunks.json"] = "it is missing"
    except (OSError, ValueError): wrong["chunks.json"] = "it is not a whole record"
    names = [f"{i:05d}" for i in range(number)]
    shards = Shards(folder / "audio")
    for part, suffix in (("audio", ".arrow"), ("facts", ".parquet")):
        there = {p.name for p in (folder / part).iterdir()} if (folder / part).is_dir() else set()
        gone = [n for n in names if n + suffix not in there] if part == "facts" else []
        for n in gone: wrong[f"facts/{n}.parquet"] = "it is missing"
        if number:
            for n in sorted(there - {n + suffix for n in names}):
                if not n.endswith(".part"): wrong[f"{part}/{n}"] = "it is no file of this corpus"
    sums = {(s, int(r)): c for s, r, c in zip(rows["shard"], rows["row"], rows["checksum"])}
    for i, n in enumerate(names):
        if (f"facts/{n}.parquet" not in wrong
            and (why := _wrong_facts(folder / "facts" / f"{n}.parquet", i, sums, shards))):
            wrong[f"facts/{n}.parquet"] = why
    return pd.DataFrame([dict(utterance=n, source=n, reason=DAMAGED, detail=why) for n, why in wrong.items()],
                        columns=["utterance", "source", "reason", "detail"])


def _wrong_facts(file: Path, i: int, sums: dict, shards: Shards) -> str:
    "Why a table of facts does not belong to its shard and to the manifest, '' where it does"
    try: facts = lists.read_parquet(file)
    except (OSError, ValueError) as e:
        return lists.printable(getattr(e, "strerror", None) or "it is not a whole Parquet file", 120)
    if gone := sorted(set(FACTS) - set(facts)): return f"columns {gone} are missing"
    if len(facts) > CHUNK or not np.array_equal(facts["at"], np.arange(CHUNK * i, CHUNK * i + len(facts))):
        return "it holds the facts of another chunk"
    held = facts[facts["row"] >= 0]
    if [1 for r, c in zip(held["row"], held["sha256"]) if sums.get((file.stem + ".arrow", int(r)), c) != c]:
        return "its checksums are not the manifest's"
    try: n = shards.count(file.stem + ".arrow")
    except (OSError, ValueError): return ""  # told for each utterance
    return "" if n == len(held) else f"it tells of {len(held)} utterances, its shard holds {n}"


def _facts_of(rows: pd.DataFrame) -> pd.DataFrame: return _inspect(rows)[1]


def _to_validate(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Rows of a manifest or of a list of one's own, and notes on the whole, as `_listing` gives them"
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise ValueError(f"{path.name} is no .csv or .parquet: give a prepared folder, "
                         "a manifest or a list of your own")
    m = read_own_list(path)
    if "speaker_id" in m: return _listing("own", path)
    told = m.attrs.pop("note", None)
    notes = pd.DataFrame([(path.name, path.name, UNTOLD, told)] if told else [], columns=LISTED)
    if path.suffix.lower() == ".csv":
        if gone := [c for c in ("utterance", "speaker") if c not in m]:
            raise ValueError(f"{path.name}: columns {gone} are missing; has {lists.few(m.columns, 20)}")
        m = parse_numbers(m, path.name)
    check_manifest(m, split="split" in m)
    if "path" not in m: raise ValueError(f"{path.name} has no column path, so there is no audio to open")
    at, base = place_paths(m.assign(path=lists.as_text(m["path"])), path), os.path.abspath(path.parent)
    fault = at["fault"] if "fault" in at else ""
    return (m.assign(path=at["path"], source=_names(at["path"], base), told_s=m["duration"], reason=fault,
                     detail=at["detail"] if "fault" in at else "",
                   **{c: m[c] if c in m else np.nan for c in ("start_s", "end_s")}), notes)


def validate_manifest(
    path,  # a prepared folder, a manifest, or a list of one's own
    workers: int | None = None,  # processes; None: one a core
    out=None,  # a folder for report.md and dropped.csv; None: nothing is written
    progress=lambda what, done, of: None,  # called often
) -> tuple[str, int]:  # the report, and 0 where all is well, 1 where a fault was found
    "Open every file that is listed; prepared audio against its checksums"
    path, found_in = Path(path), Owned(out, "mkdcls validate", empty=False) if out else None
    if path.name == "manifest.parquet" and (path.parent / "corpus.json").exists(): path = path.parent
    if path.is_dir():
        about, rows = about_prepared(path), _prepared_rows(path)
        corpus = str(about["name"])
        found = pd.concat([_gathered(_verify, [(path / "audio", r) for _, r in rows.groupby("shard")], len(rows),
                                     workers, progress), _beside(path, about, rows)])
        rows = found
        bad = found["reason"] != ""
        kept, dropped, notes = found[~bad], _listed(found[bad]), pd.DataFrame(columns=LISTED)
    elif path.is_file():
        rows, notes = _to_validate(path)
        corpus, todo = " + ".join(sorted(rows["corpus"].unique())), rows[rows["reason"] == ""].reset_index(drop=True)
        read = todo[["path", "start_s", "end_s", "told_s"]]
        if len(todo):
            facts = _gathered(_facts_of, [(read[i:i + CHUNK],) for i in range(0, len(todo), CHUNK)], len(todo), workers,
                              progress)
        else: facts = pd.DataFrame(columns=list(FACTS)).astype(FACTS)
        kept, dropped, notes = _judged(rows, notes, todo, facts)
    else:
        raise FileNotFoundError(f"no file or folder {path}: give a prepared folder, "
                                "a manifest (.parquet) or a list (.csv, .parquet)")
    report = report_text(corpus, len(rows), kept, dropped, notes)
    if found_in:
        found_in.save()
        try:
            for name, text in (("dropped.csv", _dropped_csv(dropped)), ("report.md", report)):
                with _writing(found_in.folder / name): found_in.write(name, text.encode())
        finally: found_in.save()
    else: report = report.replace("is in `dropped.csv`", "is written to `dropped.csv` with --out <folder>")
    return report, int(_faults(dropped) > 0)


_real = {}


def prepared_real(folder, progress=lambda what, done, of: None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifests of the Accent Archive and Common Voice, prepared into the folder of runs

    Looked at once a process, and an error where the folder has changed since.
    """
    at = home() / "prepared" / digest([os.path.abspath(folder), {m: module_hash(m) for m in CODE}])
    if at not in _real:
        _real[at] = tuple(open_prepared(prepare_corpus(name, Path(folder) / name, writable(at / name),
                                                       progress=progress, say=lambda text: None)) for name in REAL)
    return _real[at]
