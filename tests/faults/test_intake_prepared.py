# ruff: noqa: E501 (tables of kinds: one a line)
"""Commands that write: select, validate, prepare; and prepared folders whose files are cut, swapped, changed or of another version."""
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from faults.harness import kinds
from mkdcls.adapters import check_selection, rebuild_selection
from mkdcls.engine.owned import MARK, Owned, not_portable
from mkdcls.engine.shards import Shards, write_shard
from mkdcls.intake import corpora as intake
from mkdcls.intake.corpora import prepare_corpus, validate_manifest


def wave(i, seconds=1.):
    n = round(8000 * seconds)
    return (.3 * np.sin(2 * np.pi * (100 + i) * np.arange(n) / 8000) + .01 * np.random.default_rng(i).standard_normal(n)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "A Common Voice of one locale, 20 voices with three clips each"
    top = tmp_path_factory.mktemp("cv")
    (top / "ko" / "clips").mkdir(parents=True)
    rows = ["client_id\tpath\tage\tgender"]
    for i in range(60):
        sf.write(top / "ko" / "clips" / f"{i}.wav", wave(i), 8000)
        rows.append(f"v{i // 3}\t{i}.wav\t{('twenties', 'fourties')[i // 3 % 2]}\t{('female', 'male')[i // 6 % 2]}")
    (top / "ko" / "validated.tsv").write_text("\n".join(rows) + "\n")
    return top


@pytest.fixture(scope="module")
def small(): # chunks of 25
    before, intake.CHUNK = intake.CHUNK, 25
    yield
    intake.CHUNK = before


def prepare(corpus, out, **how): return prepare_corpus("common_voice", corpus, out, workers=1, say=lambda t: None, **how)


@pytest.fixture(scope="module")
def whole(corpus, small, tmp_path_factory): return prepare(corpus, tmp_path_factory.mktemp("p") / "out")


@pytest.fixture
def out(whole, tmp_path): return Path(shutil.copytree(whole, tmp_path / "out"))


def files(folder): return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}
def cut(p): p.write_bytes(p.read_bytes()[:len(p.read_bytes()) // 2])
def swap(a, b): (a.rename(a.with_name("t")), b.rename(a), a.with_name("t").rename(b))
def say(p, **new): p.write_text(json.dumps(json.loads(p.read_text()) | new))


def table(p, f):
    d = pd.read_parquet(p)
    f(d).to_parquet(p)


def flip(o):
    p = o / "audio" / "00001.arrow"
    data, at = bytearray(p.read_bytes()), p.read_bytes().find(Shards(o / "audio").read("00001.arrow", 3).tobytes())
    data[at + 100] ^= 1
    p.write_bytes(data)


FOUND = {
    "a bit": (flip, "samples differ"), "shard cut": (lambda o: cut(o / "audio" / "00000.arrow"), "audio is truncated"), "shard empty": (lambda o: (o / "audio" / "00000.arrow").write_bytes(b""), "audio is truncated"),
    "shard is text": (lambda o: (o / "audio" / "00000.arrow").write_text("no"), "audio is truncated"), "shard gone": (lambda o: (o / "audio" / "00001.arrow").unlink(), "audio missing"),
    "shards swapped": (lambda o: swap(o / "audio" / "00000.arrow", o / "audio" / "00001.arrow"), "samples differ"), "shard with fewer": (lambda o: write_shard(o / "audio" / "00000.arrow", [np.ones(9, np.int16)]), "truncated"),
    "shard with more": (lambda o: write_shard(o / "audio" / "00002.arrow", [*(Shards(o / "audio").read("00002.arrow", i).copy() for i in range(10)), np.ones(9, np.int16)]), "its shard holds 11"),
    "a strange shard": (lambda o: write_shard(o / "audio" / "00009.arrow", []), "no file of this corpus"), "facts cut": (lambda o: cut(o / "facts" / "00001.parquet"), "facts/00001.parquet"),
    "facts gone": (lambda o: (o / "facts" / "00001.parquet").unlink(), "it is missing"), "facts swapped": (lambda o: swap(o / "facts" / "00000.parquet", o / "facts" / "00001.parquet"), "another chunk"),
    "facts of another version": (lambda o: table(o / "facts" / "00001.parquet", lambda d: d.drop(columns="sha256")), "sha256"), "facts changed": (lambda o: table(o / "facts" / "00001.parquet", lambda d: d.assign(sha256="0" * 64)), "not the manifest"),
    "chunks.json cut": (lambda o: cut(o / "chunks.json"), "chunks.json"), "chunks.json gone": (lambda o: (o / "chunks.json").unlink(), "chunks.json"), "chunks.json is a list": (lambda o: (o / "chunks.json").write_text("[]"), "chunks.json"),
    "chunks.json of words": (lambda o: say(o / "chunks.json", utterances="many"), "chunks.json"), "chunks.json without end": (lambda o: say(o / "chunks.json", utterances=10**30), "chunks.json"), "chunks.json is deep": (lambda o: (o / "chunks.json").write_text("[" * 99999), "chunks.json"),
    "corpus.json of another": (lambda o: say(o / "corpus.json", utterances=7), "tells of 7"), "corpus.json of words": (lambda o: say(o / "corpus.json", utterances="x"), "tells of x"),
    "a row lost": (lambda o: table(o / "manifest.parquet", lambda d: d[1:]), "tells of 60"), "a checksum changed": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(checksum=["0" * 64, *d["checksum"][1:]])), "samples differ"),
    "rows swapped": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(row=[d["row"][1], d["row"][0], *d["row"][2:]])), "samples differ"), "a row beyond": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(row=[999, *d["row"][1:]])), "truncated"),
    "a negative row": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(row=[-1, *d["row"][1:]])), "truncated")}


@kinds("prepared folders", FOUND)
def test_validate_names_what_is_wrong(fault, kind, out):
    kind[0](out)
    report, code = fault.survives(lambda: validate_manifest(out, workers=1))
    assert code == 1 and kind[1] in report, report


REFUSED = {
    "corpus.json cut": (lambda o: cut(o / "corpus.json"), "corpus.json is not a whole"), "corpus.json a list": (lambda o: (o / "corpus.json").write_text("[1]"), "corpus.json is not a whole"), "corpus.json deep": (lambda o: (o / "corpus.json").write_text("[" * 99999), "corpus.json"),
    "corpus.json bytes": (lambda o: (o / "corpus.json").write_bytes(b"\xff\xfe\0"), "corpus.json"), "corpus.json without name": (lambda o: (o / "corpus.json").write_text("{}"), "name is missing"), "corpus.json gone": (lambda o: (o / "corpus.json").unlink(), "not a prepared corpus"),
    "manifest cut": (lambda o: cut(o / "manifest.parquet"), "not a whole Parquet"), "manifest gone": (lambda o: (o / "manifest.parquet").unlink(), "is not there"), "manifest of another kind": (lambda o: table(o / "manifest.parquet", lambda d: d.drop(columns="shard")), "shard"),
    "manifest without rows": (lambda o: table(o / "manifest.parquet", lambda d: d[:0]), "no rows"), "shard that climbs": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(shard="../../x.arrow")), "no place in audio"),
    "row missing": (lambda o: table(o / "manifest.parquet", lambda d: d.assign(row=[np.nan, *d["row"][1:]])), "no place in audio")}


@kinds("prepared folders", REFUSED)
def test_validate_refuses(fault, kind, out):
    kind[0](out)
    fault.command(["validate", out, "--workers", "1"], kind[1])


AGAIN = {"shard cut": lambda o: cut(o / "audio" / "00001.arrow"), "shard empty": lambda o: (o / "audio" / "00001.arrow").write_bytes(b""), "shard gone": lambda o: (o / "audio" / "00001.arrow").unlink(), "facts gone": lambda o: (o / "facts" / "00001.parquet").unlink(),
         "corpus.json cut": lambda o: cut(o / "corpus.json"), "manifest cut": lambda o: cut(o / "manifest.parquet"), "report gone": lambda o: (o / "report.md").unlink(), "half a shard left": lambda o: (o / "audio" / "00001.arrow.part").write_bytes(b"x")}


@kinds("prepared folders", AGAIN)
def test_prepared_again_it_is_whole(fault, kind, corpus, whole, out):
    kind(out)
    fault.survives(lambda: prepare(corpus, out))
    now = files(out)
    assert {n: now[n] for n in files(whole)} == files(whole)


def linked(o, name):
    elsewhere = o.parent / "elsewhere"
    (elsewhere / "mine").mkdir(parents=True)
    if (o / name).is_dir(): shutil.rmtree(o / name)
    else: (o / name).unlink(missing_ok=True)
    (o / name).symlink_to(elsewhere / "mine")


CLAIMED = {"chunks.json cut": (lambda o: cut(o / "chunks.json"), "chunks.json"), "chunks.json a list": (lambda o: (o / "chunks.json").write_text("[]"), "chunks.json"), "chunks.json of somebody": (lambda o: (o / "chunks.json").write_text('{"a": 1}'), "chunks.json"),
           "facts cut": (lambda o: cut(o / "facts" / "00001.parquet"), "delete that file"), "facts swapped": (lambda o: swap(o / "facts" / "00000.parquet", o / "facts" / "00001.parquet"), "another chunk"),
           "facts of another version": (lambda o: table(o / "facts" / "00001.parquet", lambda d: d.drop(columns="sha256")), "version"), "audio is a link": (lambda o: linked(o, "audio"), "link"), "facts is a link": (lambda o: linked(o, "facts"), "link"),
           "report is a link": (lambda o: linked(o, "report.md"), "link"), "a part is a link": (lambda o: linked(o, "report.md.part"), "link"), "another's folder": (lambda o: (shutil.rmtree(o), o.mkdir(), (o / "thesis.txt").write_text("mine")), "not empty.*thesis")}


@kinds("lost", CLAIMED)
def test_prepare_leaves_what_is_not_its_own(fault, kind, corpus, out):
    kind[0](out)
    fault.command(["prepare", "common_voice", corpus, "--out", out, "--workers", "1"], kind[1])
    assert not (out.parent / "elsewhere" / "mine").is_dir() or not list((out.parent / "elsewhere" / "mine").iterdir())


# ---- validate --out

@kinds("lost", {"a report": "report.md", "a list": "dropped.csv", "a mark": MARK})
def test_validate_never_writes_over(fault, kind, whole, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / kind).write_text("my thesis")
    fault.command(["validate", whole, "--out", tmp_path / "mine", "--workers", "1"], "nothing is written over")
    assert (tmp_path / "mine" / kind).read_text() == "my thesis"


@kinds("lost")
def test_validate_into_a_prepared_folder(fault, out):
    before = files(out)
    flip(out)
    fault.command(["validate", out, "--out", out, "--workers", "1"], "nothing is written over")
    assert {n for n, d in files(out).items() if before.get(n) != d} <= {"audio/00001.arrow", MARK, "dropped.csv"}


@kinds("lost")
def test_validate_twice(fault, out, tmp_path):
    "Its own report it may replace; one that was changed by hand it may not"
    validate_manifest(out, 1, tmp_path / "found")
    flip(out)
    fault.survives(lambda: validate_manifest(out, 1, tmp_path / "found"))
    assert "samples differ" in (tmp_path / "found" / "report.md").read_text()
    (tmp_path / "found" / "report.md").write_text("with my remarks")
    fault.refuses(lambda: validate_manifest(out, 1, tmp_path / "found"), "changed since")


# ---- select

@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    top = tmp_path_factory.mktemp("downloads")
    (top / "cv" / "cy" / "clips").mkdir(parents=True)
    (top / "saa" / "recordings" / "recordings").mkdir(parents=True)
    rows, sums = ["client_id\tpath\tage\tgender"], []
    for i in range(3):
        sf.write(top / "cv" / "cy" / "clips" / f"{i}.wav", wave(i), 8000)
        rows.append(f"v{i}\t{i}.wav\ttwenties\tmale")
        sums.append((f"common_voice/cy/clips/{i}.wav", hashlib.sha256((top / "cv" / "cy" / "clips" / f"{i}.wav").read_bytes()).hexdigest()))
    (top / "cv" / "cy" / "validated.tsv").write_text("\n".join(rows) + "\n")
    sf.write(top / "saa" / "recordings" / "recordings" / "thai1.mp3", np.tile(wave(7, 4.), 4), 8000)
    (top / "saa" / "speakers_all.csv").write_text('age,filename,sex,speakerid\n=1+1,thai1,"male, really",1\n')
    return top, pd.DataFrame(sums + [("accent_archive/audio/saa_1_0.flac", "0" * 64)], columns=["file", "sha256"])


NAMES = {"climbing": "accent_archive/../../saa_1_0.flac", "climbing in the middle": "accent_archive/audio/../../../saa_1_0.flac", "absolute": "/tmp/saa_1_0.flac", "NUL": "accent_archive/audio/saa_1_0\0.flac", "drive": "C:/audio/saa_1_0.flac",
         "backslashes": "accent_archive\\..\\..\\saa_1_0.flac", "device": "accent_archive/audio/NUL.flac", "device with a number": "common_voice/cy/clips/com1.mp3", "another folder": "notes/saa_1_0.flac", "no folder": "saa_1_0.flac",
         "the list itself": "accent_archive/manifest.csv", "the label file": "common_voice/cy/validated.tsv", "a full stop at the end": "common_voice/cy/clips/a.", "a question mark": "common_voice/cy/clips/a?.mp3", "empty": "", "a space at the end": "common_voice/cy/clips/a ",
         "too long": "common_voice/cy/clips/" + "a" * 300, "in case only": "common_voice/CY/clips/0.wav", "twice": "common_voice/cy/clips/0.wav", "dots": "common_voice/./clips/0.wav", "two slashes": "common_voice//clips/0.wav"}


@kinds("outside", NAMES)
def test_no_name_of_a_selection_leads_out(fault, kind, downloads, tmp_path):
    top, listing = downloads
    bad = pd.concat([listing, pd.DataFrame([(kind, "0" * 64)], columns=listing.columns)], ignore_index=True)
    fault.refuses(lambda: rebuild_selection(bad, top / "cv", top / "saa", tmp_path / "out"), "row 5 of the selection list")
    assert not (tmp_path / "out").exists() and os.listdir(tmp_path) == []


LISTS = {"empty": ("", "empty"), "header alone": ("file,sha256\n", "names no file"), "no column": ("a,b\n1,2\n", "missing"), "no sum": ("file,sha256\ncommon_voice/cy/clips/0.wav,x\n", "sha256"), "open quote": ('file,sha256\n"a,b\n', "quotation"), "bytes": ("\0\0\0", "NUL")}


@kinds("lists refused", LISTS)
def test_selection_lists(fault, kind, downloads, tmp_path):
    (tmp_path / "s.csv").write_text(kind[0])
    fault.command(["select", "--common-voice", downloads[0] / "cv", "--accent-archive", downloads[0] / "saa", "--out", tmp_path / "o", "--selection", tmp_path / "s.csv"], kind[1])
    with pytest.raises(ValueError): check_selection(tmp_path, tmp_path / "s.csv")


def mine(o): (o.mkdir(parents=True), (o / "thesis.txt").write_text("mine"))


OUTS = {"the folder of a download": lambda d, t: d / "cv", "inside a download": lambda d, t: d / "saa" / "new", "above the downloads": lambda d, t: d, "a folder with something of mine": lambda d, t: (mine(t / "o"), t / "o")[1]}


@kinds("lost", OUTS)
def test_select_writes_into_a_new_folder(fault, kind, downloads, tmp_path):
    top = Path(shutil.copytree(downloads[0], tmp_path / "d"))
    where = kind(top, tmp_path)
    before = files(tmp_path)
    fault.refuses(lambda: rebuild_selection(downloads[1], top / "cv", top / "saa", where), "nothing is written over")
    assert files(tmp_path) == before


def changed(o): (o / "common_voice/cy/clips/0.wav").write_text("mine")
def behind(o):
    shutil.move(o / "common_voice", o.parent / "elsewhere")
    (o / "common_voice").symlink_to(o.parent / "elsewhere")
    (o.parent / "elsewhere/cy/clips/0.wav").unlink()


@kinds("lost", {"a clip changed by hand": (changed, "changed since"), "a folder that is a link": (behind, "link that leads out"), "the mark of another command": (lambda o: say(o / MARK, command="x"), "no whole mark"), "a mark that is cut": (lambda o: cut(o / MARK), "no whole mark"),
                "a clip that is a link": (lambda o: ((o / "common_voice/cy/clips/0.wav").unlink(), (o / "common_voice/cy/clips/0.wav").symlink_to("/etc/hostname")), "not written by")})
def test_select_again(fault, kind, downloads, tmp_path):
    (top, listing), o = downloads, tmp_path / "in" / "o"
    again = lambda: rebuild_selection(listing, top / "cv", top / "saa", o)
    again()
    kind[0](o)
    fault.refuses(again, kind[1])
    assert not (tmp_path / "in" / "elsewhere" / "cy" / "clips" / "0.wav").exists()


@kinds("lost")
def test_select_twice_is_once(fault, downloads, tmp_path):
    (top, listing), o = downloads, tmp_path / "o"
    rebuild_selection(listing, top / "cv", top / "saa", o)
    before = files(o)
    fault.survives(lambda: rebuild_selection(listing, top / "cv", top / "saa", o))
    assert files(o) == before


@kinds("injection")
def test_labels_in_the_archives_list_are_cells(fault, downloads, tmp_path):
    fault.survives(lambda: rebuild_selection(downloads[1], downloads[0] / "cv", downloads[0] / "saa", tmp_path / "o"))
    assert pd.read_csv(tmp_path / "o" / "accent_archive" / "manifest.csv", dtype=str)[["age", "gender"]].values.tolist() == [["'=1+1", "male, really"]]


@kinds("injection")
def test_dropped_csv(fault, corpus, tmp_path):
    "A clip whose name is a formula, in a list that prepare and validate tell of"
    top = Path(shutil.copytree(corpus, tmp_path / "cv"))
    with open(top / "ko" / "validated.tsv", "a") as f: f.write("=v\t=cmd.wav\t=1\t\x1b[31m\n")
    fault.survives(lambda: prepare(top, tmp_path / "out"))
    text = (tmp_path / "out" / "dropped.csv").read_text() + (tmp_path / "out" / "report.md").read_text()
    assert "\x1b" not in text and not [l for l in text.split("\n") if l.startswith("=") or ",=" in l]


@kinds("outside", {"": "", "..": "../x", "absolute": "/x", "drive": "c:x", "device": "a/aux.txt", "backslash": "a\\b", "NUL": "a\0", "colon": "a:b", "star": "*", "newline": "a\nb", "dot at the end": "a./b"})
def test_a_name_that_is_written(fault, kind, tmp_path):
    fault.refuses(lambda: Owned(tmp_path / "o", "test").write(kind, b""), "cannot be written")
    assert not_portable(kind)


@kinds("archives")
def test_prepare_from_a_zip_that_climbs(fault, corpus, tmp_path):
    with zipfile.ZipFile(tmp_path / "cv.zip", "w") as z:
        for p in sorted(corpus.rglob("*")): z.write(p, p.relative_to(corpus))
        z.writestr("../../evil.wav", "x")
    out = fault.survives(lambda: prepare(tmp_path / "cv.zip", tmp_path / "out"))
    assert "path outside the corpus" in (out / "dropped.csv").read_text() and not list(tmp_path.rglob("evil*"))
