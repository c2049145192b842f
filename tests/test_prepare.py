"""mkdcls prepare, validate, template and select, through the real command line: in this process where that shows the same, in one of its own where
something is killed. Corpora are small trees in the layout of Common Voice, written here; real speech where MKDCLS_REAL names its folder."""
import errno
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from mkdcls import adapters
from mkdcls.corpora import MANIFEST, open_prepared, own_corpus, read_audio, split_speakers
from mkdcls.intake import corpora as intake
from mkdcls.results.cli import main
from mkdcls.engine.shards import Shards

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "mkdcls.results.cli"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SPEAKERS, EACH, CHUNKS = 24, 40, 4
N = SPEAKERS * EACH
AGES, GENDERS = ("twenties", "thirties", "fourties", "fifties", "sixties"), ("female", "male")


def wave(seconds=1.2, rate=16000, pitch=150.0, seed=0):
    t = np.arange(round(seconds * rate)) / rate
    return (.3 * np.sin(2 * np.pi * pitch * t) + .02 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


def common_voice(top: Path, speakers: int, each: int, dirt=(), rate=16000):
    "A tree of one locale; `dirt` are more rows (speaker, clip, age, gender)"
    clips, rows = top / "ko" / "clips", []
    clips.mkdir(parents=True)
    for s in range(speakers):
        for k in range(each):
            sf.write(clips / f"{s:02d}_{k:02d}.wav", wave(1 + k % 7 / 10, rate, 100 + 5 * s, 100 * s + k), rate)
            rows.append((f"voice{s}", f"{s:02d}_{k:02d}.wav", AGES[s // 2 % len(AGES)], GENDERS[s % 2]))
    lines = ["client_id\tpath\tage\tgender", *("\t".join(r) for r in [*rows, *dirt])]
    (top / "ko" / "validated.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return top


def packed(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for p in sorted(folder.rglob("*"), reverse=True): z.write(p, p.relative_to(folder))
    return file


def files(folder: Path) -> dict[str, str]:
    "Every file of a prepared folder, and its digest"
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def prepare(corpus, out, *more, workers=1, adapter="common_voice") -> int:
    return main(["prepare", adapter, str(corpus), "--out", str(out), "--workers", str(workers), *map(str, more)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Four chunks of sound clips, and six rows outside the classes"
    dirt = [("teen", "t.wav", "teens", "male"), ("quiet", "q.wav", "", "female"), ("other", "o.wav", "fifties", "other"), ("none", "n.wav", "fifties", ""),
            ("teen", "t2.wav", "teens", "male"), ("quiet", "q2.wav", "", "")]
    return common_voice(tmp_path_factory.mktemp("corpus") / "cv", SPEAKERS, EACH, dirt)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    "The corpus, prepared in a process of its own"
    out = tmp_path_factory.mktemp("prepared") / "out"
    done = subprocess.run([*COMMAND, "prepare", "common_voice", str(corpus), "--out", str(out), "--workers", "1"], capture_output=True, text=True, cwd=ROOT,
                          env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done, out


@pytest.fixture
def out(run): return run[1]


# ---- what is made

def test_it_says_first_what_it_takes(run):
    told = run[0].stdout
    assert f"{N + 6} utterances, {N} with usable labels" in told and f"{N} files" in told and "with 1 worker." in told and "the same command goes on" in told
    size = float(told.split("about ")[1].split(" MB on disk")[0])
    assert .8 < size * 1e6 / sum(p.stat().st_size for p in run[1].rglob("*.arrow")) < 1.25
    assert f"{N} of {N + 6} utterances are ready" in told and "decode and check: 100%" in run[0].stderr and f"{N}/{N}" in run[0].stderr


def test_what_is_written(out):
    names = [f"{i:05d}" for i in range(CHUNKS)]
    assert set(files(out)) == {"manifest.parquet", "corpus.json", "report.md", "dropped.csv", "chunks.json", *(f"audio/{n}.arrow" for n in names),
                               *(f"facts/{n}.parquet" for n in names)}
    about = json.loads((out / "corpus.json").read_text("utf-8"))
    assert about["dropped"] == {"no age": 1, "no gender": 2, "other gender": 1, "under 20": 2} and about["faults"] == 0
    assert (about["name"], about["adapter"], about["listed"], about["utterances"], about["speakers"]) == ("Common Voice", "common_voice", N + 6, N, SPEAKERS)
    assert sum(about["splits"].values()) == N and (about["seed"], about["by"], about["fractions"]) == (0, "speaker", [.8, .1, .1])
    dropped = pd.read_csv(out / "dropped.csv")
    assert list(dropped) == ["utterance", "path", "reason", "detail"] and len(dropped) == 6
    assert dict(zip(dropped["path"], dropped["detail"].fillna("")))["ko/clips/t.wav"] == "teens"


def test_manifest(out):
    m = pd.read_parquet(out / "manifest.parquet")
    assert set(m) <= set(MANIFEST.columns) and {"split", "fold", "path", "shard", "row", "checksum", "rate", "duration", "language"} <= set(m)
    assert m["path"].iloc[0] == "ko/clips/00_00.wav" and m["utterance"].iloc[0] == "Common Voice/ko/clips/00_00.wav" and m["path"].is_monotonic_increasing
    assert (m["rate"] == 16000).all() and m["age"].isna().all() and m["duration"].between(1, 1.6).all()
    assert m["split"].equals(split_speakers(m.drop(columns="split"))["split"]) and m.groupby("speaker")["fold"].nunique().max() == 1 and m["fold"].nunique() == 5
    assert (m.groupby("shard")["row"].agg(list).map(lambda r: r == list(range(len(r))))).all() and m["shard"].value_counts().max() == intake.CHUNK


def test_audio_is_the_source_at_8_khz(corpus, out):
    m, shards = pd.read_parquet(out / "manifest.parquet"), Shards(out / "audio")
    for r in m.iloc[::47].itertuples():
        got = shards.read(r.shard, r.row)
        assert np.array_equal(got / np.float32(2**15), read_audio(corpus / r.path)) and hashlib.sha256(got).hexdigest() == r.checksum
        assert len(got) == round(r.duration * 8000)


def test_opened_it_names_its_shards(out):
    m = open_prepared(out)
    assert set(m["path"].astype(str)) == {str(p) for p in (out / "audio").iterdir()} and len(m) == N


def test_nothing_names_this_machine(corpus, out):
    places = [str(corpus.parent), str(out.parent), str(ROOT), str(Path.home())]
    for name in files(out):
        p = out / name
        text = pd.read_parquet(p).to_csv() if p.suffix == ".parquet" else p.read_bytes().decode("utf-8", "ignore")
        assert not [w for w in places if w in text], name


# ---- the same bytes

def test_again_is_the_same_and_decodes_nothing(corpus, out, tmp_path, monkeypatch, capsys):
    shutil.copytree(out, tmp_path / "again")
    monkeypatch.setattr(intake, "inspect_audio", lambda *a, **k: pytest.fail("decoded again"))
    assert prepare(corpus, tmp_path / "again") == 0 and files(tmp_path / "again") == files(out)
    assert "To do" not in capsys.readouterr().out


def test_two_workers_and_a_zip_give_the_same(corpus, out, tmp_path):
    "Through a zip whose members lie in another order"
    assert prepare(packed(corpus, tmp_path / "download.zip"), tmp_path / "zip", workers=2) == 0
    assert files(tmp_path / "zip") == files(out)


def test_a_tar_is_read_forwards(corpus, out, tmp_path, monkeypatch):
    "A compressed tar, in whatever order it was packed: the same utterances and sums, rows in its order, no step back"
    import tarfile
    with tarfile.open(tmp_path / "download.tar.gz", "w:gz", compresslevel=1) as t:
        for p in sorted(corpus.rglob("*"), key=lambda p: hashlib.sha256(p.name.encode()).digest()): t.add(p, p.relative_to(corpus), recursive=False)
    order, real = [], intake.inspect_audio
    monkeypatch.setattr(intake, "inspect_audio", lambda path, *a, **k: (order.append(path), real(path, *a, **k))[1])
    assert prepare(tmp_path / "download.tar.gz", tmp_path / "tar") == 0
    with tarfile.open(tmp_path / "download.tar.gz") as t: packed_as = [f"{tmp_path}/download.tar.gz/{m.name}" for m in t if m.isfile()]
    assert order[-N:] == [p for p in packed_as if p in set(order)]
    a, b = (pd.read_parquet(d / "manifest.parquet").drop(columns=["shard", "row"]).sort_values("utterance", ignore_index=True) for d in (tmp_path / "tar", out))
    pd.testing.assert_frame_equal(a, b)


def stopped(corpus, out, workers, how, most=CHUNKS - 1) -> tuple[subprocess.Popen, str]:
    "The command in a process group of its own, stopped when `most` chunks were done at the most → its process, what it said. Tried again where it was too fast"
    for _ in range(5):
        shutil.rmtree(out, ignore_errors=True)
        p = subprocess.Popen([*COMMAND, "prepare", "common_voice", str(corpus), "--out", str(out), "--workers", str(workers)], cwd=ROOT, env=ENVIRONMENT, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a test run in the background hands an ignored SIGINT down
        until = time.time() + 120
        while not list(out.glob("facts/*.parquet")):
            assert p.poll() is None and time.time() < until, p.communicate()
            time.sleep(.001)
        how(p)
        _, told = p.communicate(timeout=120)
        if p.returncode and len(list(out.glob("facts/*.parquet"))) <= most: return p, told
    pytest.fail("never caught in the middle")


def alive(group: int) -> list[str]:
    "Processes of a group that have not ended"
    stats = [p.read_text().rsplit(")", 1)[1].split() for p in Path("/proc").glob("[0-9]*/stat") if p.exists()]
    return [s[0] for s in stats if int(s[2]) == group and s[0] not in "ZX"]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_killed_it_goes_on(corpus, out, tmp_path, workers, capsys):
    "SIGKILL to the command alone: its workers end too, and the same command finishes with the same bytes"
    p, _ = stopped(corpus, tmp_path / "out", workers, lambda p: p.kill())
    until = time.time() + 30
    while alive(p.pid):
        assert time.time() < until, "workers outlive the command"
        time.sleep(.05)
    done = len(list((tmp_path / "out" / "facts").glob("*.parquet")))
    assert 1 <= done < CHUNKS and not (tmp_path / "out" / "corpus.json").exists()
    assert prepare(corpus, tmp_path / "out") == 0 and files(tmp_path / "out") == files(out)
    assert "of them done before" in capsys.readouterr().out


def test_ctrl_c(corpus, out, tmp_path):
    "To the whole group, as a terminal sends it: workers finish the chunk in hand and say nothing"
    p, told = stopped(corpus, tmp_path / "out", 2, lambda p: os.killpg(p.pid, signal.SIGINT), CHUNKS)
    assert p.returncode == 130 and "the same command goes on" in told and "Traceback" not in told
    assert prepare(corpus, tmp_path / "out") == 0 and files(tmp_path / "out") == files(out)


def test_a_damaged_chunk_alone_is_made_anew(corpus, out, tmp_path, capsys):
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out" / "audio" / "00001.arrow").unlink()
    assert prepare(corpus, tmp_path / "out") == 0 and files(tmp_path / "out") == files(out)
    assert f"{N - 256} of them done before" in capsys.readouterr().out
    table = tmp_path / "out" / "facts" / "00003.parquet"
    table.write_bytes(table.read_bytes()[:100])
    assert prepare(corpus, tmp_path / "out") == 2 and "00003.parquet" in (told := capsys.readouterr().err) and "delete that file" in told
    table.unlink()
    assert prepare(corpus, tmp_path / "out") == 0 and files(tmp_path / "out") == files(out)


def test_another_split_decodes_nothing_anew(corpus, out, tmp_path, monkeypatch):
    shutil.copytree(out, tmp_path / "out")
    monkeypatch.setattr(intake, "inspect_audio", lambda *a, **k: pytest.fail("decoded again"))
    assert prepare(corpus, tmp_path / "out", "--seed", 1, "--fractions", "0.5,0.2,0.3") == 0
    a, b = (pd.read_parquet(d / "manifest.parquet") for d in (out, tmp_path / "out"))
    assert not a["split"].equals(b["split"]) and a["checksum"].equals(b["checksum"])
    assert b["split"].equals(split_speakers(a, (.5, .2, .3), 1)["split"]) and json.loads((tmp_path / "out" / "corpus.json").read_text("utf-8"))["seed"] == 1
    assert prepare(corpus, tmp_path / "out", "--by", "utterance") == 0
    with pytest.raises(ValueError, match="more than one split"): open_prepared(tmp_path / "out")
    assert main(["validate", str(tmp_path / "out"), "--workers", "1"]) == 0, "its audio is sound"


# ---- what it refuses

def refused(capsys, code, *words):
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and all(w in told for w in words), told


def test_a_changed_source_is_not_mixed_in(corpus, out, tmp_path, capsys):
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(corpus, tmp_path / "cv")
    sf.write(tmp_path / "cv" / "ko" / "clips" / "03_03.wav", wave(1.9), 16000)
    refused(capsys, prepare(tmp_path / "cv", tmp_path / "out"), "begun with something else", "source:", "choose another folder")
    assert files(tmp_path / "out") == files(out)


def test_out_is_a_folder_of_its_own(corpus, tmp_path, capsys):
    for inside in (corpus, corpus / "ready"): refused(capsys, prepare(corpus, inside), "lies inside", "outside the recordings")
    (tmp_path / "full" / "ko").mkdir(parents=True)
    refused(capsys, prepare(corpus, tmp_path / "full"), "not empty", "ko", "a folder of its own")
    (tmp_path / "file").write_text("")
    refused(capsys, prepare(corpus, tmp_path / "file" / "out"), "cannot write to", "choose another folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_that_is_read_only(corpus, tmp_path, capsys):
    tmp_path.chmod(0o555)
    refused(capsys, prepare(corpus, tmp_path / "out"), "cannot write to", "permissions")
    tmp_path.chmod(0o755)


def test_a_disk_too_small_is_refused_first(corpus, tmp_path, monkeypatch, capsys):
    "With numbers, and nothing decoded but the sample"
    usage, chunks = shutil.disk_usage(tmp_path), []
    monkeypatch.setattr(shutil, "disk_usage", lambda p: usage._replace(free=5_000_000))
    monkeypatch.setattr(intake, "prepare_chunk", lambda *a: chunks.append(a))
    refused(capsys, prepare(corpus, tmp_path / "out"), "5 MB free", "takes about 2", "make room or choose another disk")
    assert not chunks
    monkeypatch.setattr(shutil, "disk_usage", lambda p: usage._replace(free=50_000_000))
    monkeypatch.setattr(intake, "prepare_chunk", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    assert prepare(corpus, tmp_path / "out") == 130


def test_a_disk_that_fills_up(corpus, out, tmp_path, monkeypatch, capsys):
    "One line; finished chunks stay, half a shard does not; with room the same command finishes"
    real = intake.write_shard
    def full(path, waves):
        if path.name != "00001.arrow": return real(path, waves)
        path.with_name(path.name + ".part").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        m.setattr(intake, "write_shard", full)
        refused(capsys, prepare(corpus, tmp_path / "out"), "No space left on device", "What was finished is kept", "make room")
    assert {n for n in files(tmp_path / "out") if "/" in n} == {"audio/00000.arrow", "facts/00000.parquet"}
    assert prepare(corpus, tmp_path / "out") == 0 and files(tmp_path / "out") == files(out)


def test_a_write_that_the_system_refuses(corpus, tmp_path, capsys):
    "For real: no file may grow beyond 1 MB"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try: code = prepare(corpus, tmp_path / "out")
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(capsys, code, "cannot write", "File too large", "What was finished is kept")
    assert not [n for n in files(tmp_path / "out") if "/" in n]


def test_misuse(corpus, tmp_path, capsys):
    refused(capsys, prepare(corpus, tmp_path / "o", adapter="cv"), "no adapter 'cv'", "common_voice", "own")
    refused(capsys, prepare(tmp_path / "nowhere", tmp_path / "o"), "nowhere", "is not there")
    refused(capsys, prepare(tmp_path, tmp_path / "o"), "no validated.tsv")
    refused(capsys, prepare(corpus, tmp_path / "o", workers=0), "workers is 0")
    refused(capsys, prepare(corpus, tmp_path / "o2", "--fractions", "0.9,0.3,0.1"), "sum to 1")
    refused(capsys, prepare(common_voice(tmp_path / "few", 3, 2), tmp_path / "o3"), "3 speakers leave", "without any")
    assert not (tmp_path / "o2").exists() and not (tmp_path / "o3").exists(), "refused before anything is decoded"
    for argv in (["prepare", "own"], ["prepare", "own", "x.csv"], ["validate"], ["prepare", "own", "x.csv", "--out", "o", "--fractions", "a,b"]):
        with pytest.raises(SystemExit, match="2"): main(argv)
        assert "Traceback" not in capsys.readouterr().err


def test_a_corpus_without_labels(tmp_path, capsys):
    refused(capsys, prepare(common_voice(tmp_path / "cv", 0, 0, [("a", "x.wav", "", ""), ("b", "y.wav", "teens", "male")]), tmp_path / "out"),
            "none of 2 utterances has usable labels", "under 20")


def test_a_corpus_without_sound(tmp_path, capsys):
    "Every file is missing: told as a fault of each, and nothing can be made"
    shutil.rmtree(common_voice(tmp_path / "cv", 12, 2) / "ko" / "clips")
    refused(capsys, prepare(tmp_path / "cv", tmp_path / "out"), "0 of 24 utterances are sound", "'audio missing': 24", "paths are looked up from the list's own folder")
    assert (pd.read_csv(tmp_path / "out" / "dropped.csv")["reason"] == "audio missing").sum() == 24
    assert not (tmp_path / "out" / "corpus.json").exists() and main(["validate", str(tmp_path / "out")]) == 2


def test_too_few_speakers_for_the_split(tmp_path, capsys):
    common_voice(tmp_path / "cv", 3, 4)
    refused(capsys, prepare(tmp_path / "cv", tmp_path / "out"), "3 speakers leave", "--fractions 0.5,0,0.5 takes two speakers")
    assert prepare(tmp_path / "cv", tmp_path / "out", "--fractions", "0.5,0,0.5") == 0


def dies(*args): os._exit(9)


def test_a_worker_that_dies(corpus, tmp_path, monkeypatch, capsys):
    "As where the system kills it for want of memory"
    monkeypatch.setattr(intake, "prepare_chunk", dies)
    refused(capsys, prepare(corpus, tmp_path / "out", workers=2), "a worker was ended from outside", "fewer workers")


# ---- what is wrong with a corpus

def spoil(clips: Path) -> dict[str, str]:
    "Spoils clips of a tree → {clip: reason}"
    def write(name, w, rate=16000, **how): sf.write(clips / name, w, rate, **how)
    whole = (clips / "00_00.wav").read_bytes()
    (clips / "00_01.wav").unlink()
    (clips / "00_02.wav").write_bytes(b"")
    (clips / "00_03.wav").write_bytes(whole[:len(whole) // 2])
    (clips / "01_00.wav").write_text("this is not a sound")
    write("01_01.wav", np.zeros(0, np.float32))
    write("01_02.wav", np.where(np.arange(20000) == 9, np.nan, wave(1.25)).astype(np.float32), subtype="FLOAT")
    write("01_03.wav", np.zeros(20000, np.float32))
    write("02_00.wav", np.clip(20 * wave(), -1, 1))
    write("02_01.wav", np.stack([wave(), wave()], 1))
    write("02_02.wav", wave(rate=6000), 6000)
    write("02_03.wav", wave(.5))
    write("03_00.wav", wave(20.5))
    shutil.copy(clips / "04_00.wav", clips / "04_01.wav")
    shutil.copy(clips / "05_00.wav", clips / "06_00.wav")
    return {"00_01.wav": "audio missing", "00_02.wav": "audio is empty", "00_03.wav": "audio is truncated", "01_00.wav": "not audio", "01_01.wav": "no samples",
            "01_02.wav": "NaN or infinity", "01_03.wav": "digital silence", "02_00.wav": "clipped", "02_01.wav": "several channels",
            "02_02.wav": "rate below 8 kHz", "02_03.wav": "shorter than 1 s", "03_00.wav": "longer than 20 s",
            "04_01.wav": "same sound under two names", "05_00.wav": "same sound under two labels", "06_00.wav": "same sound under two labels"}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    "A tree of which some clips are spoiled, and {clip: reason}"
    dirt = [("turncoat", "x0.wav", "thirties", "female"), ("turncoat", "x1.wav", "thirties", "male"), ("voice7", "../../../secret.wav", "twenties", "male")]
    top = common_voice(tmp_path_factory.mktemp("spoiled") / "cv", 24, 4, dirt)
    for i in range(2): sf.write(top / "ko" / "clips" / f"x{i}.wav", wave(seed=50 + i), 16000)
    return top, spoil(top / "ko" / "clips") | dict.fromkeys(("x0.wav", "x1.wav"), "speaker with two genders") | {"secret.wav": "path outside the corpus"}


@pytest.mark.parametrize("how", ["folder", "zip"])
def test_every_spoiled_file_is_named_and_nothing_else(spoiled, tmp_path, capsys, how):
    top, want = spoiled
    source = top if how == "folder" else packed(top, tmp_path / "cv.zip")
    assert prepare(source, tmp_path / "out") == 1
    dropped = pd.read_csv(tmp_path / "out" / "dropped.csv")
    assert {u.rsplit("/", 1)[1]: r for u, r in zip(dropped["utterance"], dropped["reason"])} == want and len(dropped) == len(want)
    report, about = (tmp_path / "out" / "report.md").read_text("utf-8"), json.loads((tmp_path / "out" / "corpus.json").read_text("utf-8"))
    assert all(name in report for name in want) and not [r for r in set(want.values()) if r not in report]
    assert about["faults"] == len(want) - 2 and "faulty" in capsys.readouterr().out, "a length outside 1 to 20 s is no fault"
    assert len(open_prepared(tmp_path / "out")) == about["utterances"] == about["listed"] - len(want)
    assert main(["validate", str(tmp_path / "out"), "--workers", "1"]) == 0, "what was prepared is sound"


# ---- validate

def reported(capsys, code, *argv) -> str:
    assert main(["validate", *map(str, argv), "--workers", "1"]) == code
    return capsys.readouterr().out


def test_validate_a_prepared_folder(out, tmp_path, capsys):
    assert f"{N} kept" in reported(capsys, 0, out) and reported(capsys, 0, out / "manifest.parquet") == reported(capsys, 0, out)
    shutil.copytree(out, tmp_path / "out")
    m, shard = pd.read_parquet(out / "manifest.parquet"), tmp_path / "out" / "audio" / "00001.arrow"
    data = bytearray(shard.read_bytes())
    at = data.find(Shards(out / "audio").read("00001.arrow", 7).tobytes())
    data[at] ^= 1
    shard.write_bytes(data)
    told = reported(capsys, 1, tmp_path / "out")
    one = m[(m["shard"] == "00001.arrow") & (m["row"] == 7)]["path"].item()
    assert one in told and intake.CHANGED in told and not [p for p in m["path"] if p in told and p != one]
    shard.write_bytes(data[:-100])
    assert "audio is truncated" in (told := reported(capsys, 1, tmp_path / "out")) and "256" in told
    shard.unlink()
    assert "audio missing" in reported(capsys, 1, tmp_path / "out")
    (tmp_path / "out" / "corpus.json").unlink()
    assert main(["validate", str(tmp_path / "out")]) == 2 and "the same command finishes" in capsys.readouterr().err
    assert main(["validate", str(tmp_path / "nothing")]) == 2 and "give a prepared folder" in capsys.readouterr().err


@pytest.fixture
def listed(tmp_path):
    "A list of one's own, 20 recordings"
    rows = []
    for i in range(20):
        sf.write(tmp_path / f"{i}.wav", wave(seed=i, pitch=100 + 9 * i), 16000)
        rows.append((f"{i}.wav", f"who{i}", GENDERS[i % 2], 25 + i % 4 * 10))
    pd.DataFrame(rows, columns=["path", "speaker_id", "gender", "age"]).to_csv(tmp_path / "calls.csv", index=False)
    return tmp_path / "calls.csv"


def test_validate_a_list_and_a_manifest(listed, capsys):
    assert "20 rows read: 20 kept" in reported(capsys, 0, listed)
    m, _ = own_corpus(listed)
    m.assign(path=[Path(p).name for p in m["path"]]).to_parquet(listed.parent / "m.parquet")
    reported(capsys, 0, listed.parent / "m.parquet")
    (listed.parent / "7.wav").write_text("no sound")
    for file in (listed, listed.parent / "m.parquet"):
        told = reported(capsys, 1, file)
        assert "not audio" in told and "7.wav" in told and "8.wav" not in told
    (listed.parent / "7.wav").unlink()
    assert "audio missing" in (told := reported(capsys, 1, listed)) and "written to `dropped.csv` with --out" in told
    reported(capsys, 1, listed, "--out", listed.parent / "found")
    assert pd.read_csv(listed.parent / "found" / "dropped.csv")["path"].tolist() == ["7.wav"] and (listed.parent / "found" / "report.md").exists()
    listed.write_text("path,speaker\na,b\n")
    assert main(["validate", str(listed)]) == 2 and "columns" in capsys.readouterr().err


# ---- a list of one's own, its template, the selection

def test_own_list_to_prepared(listed, tmp_path, capsys):
    "The list's own split is kept; the corpus is named after the list"
    d = pd.read_csv(listed).assign(split=lambda d: np.where(d.index < 4, "test", "train"))
    d.to_csv(listed, index=False)
    assert prepare(listed, tmp_path / "out", adapter="own") == 0
    m = open_prepared(tmp_path / "out")
    assert m["corpus"].unique().tolist() == ["calls"] and m["utterance"].str.startswith("calls/").all()
    assert m.set_index("utterance")["split"].to_dict() == {f"calls/{p}": s for p, s in zip(d["path"], d["split"])}
    assert set(m["age"]) == {25, 35, 45, 55} and pd.read_parquet(tmp_path / "out" / "manifest.parquet")["path"].str.fullmatch(r"\d+\.wav").all()
    d.assign(speaker_id="one", gender="F", age=30).to_csv(listed, index=False)
    refused(capsys, prepare(listed, tmp_path / "leaky", adapter="own"), "more than one split")


def test_segments(tmp_path):
    "Parts of one recording become utterances of their own"
    long = np.concatenate([wave(2, 8000, 100 + 20 * i, i) for i in range(12)])
    sf.write(tmp_path / "call.wav", long, 8000)
    lines = [f"call.wav,v{i},{'FM'[i % 2]},{25 + i % 2 * 20},{2 * i},{2 * i + 2}" for i in range(12)]
    (tmp_path / "calls.csv").write_text("path,speaker_id,gender,age,start_s,end_s\n" + "\n".join(lines) + "\n")
    assert prepare(tmp_path / "calls.csv", tmp_path / "out", adapter="own") == 0
    m = open_prepared(tmp_path / "out")
    for r in m.itertuples():
        i = int(r.speaker.split("/v")[1])
        got = Shards(tmp_path / "out" / "audio").read(r.shard, int(r.row)) / np.float32(2**15)
        assert len(got) == 16000 and np.array_equal(got, read_audio(tmp_path / "call.wav", start_s=2 * i, end_s=2 * i + 2))


def test_template(tmp_path, capsys):
    assert main(["template", str(tmp_path / "mine.csv")]) == 0 and "mkdcls prepare own" in capsys.readouterr().out
    assert (tmp_path / "mine.csv").read_text("utf-8").startswith("path,speaker_id,gender,age,")
    assert main(["template", str(tmp_path / "mine.csv")]) == 2 and "exists" in capsys.readouterr().err


@pytest.mark.parametrize("problem,code", [(None, 0), ("not equal bit for bit", 0), ("missing", 1)])
def test_select(tmp_path, monkeypatch, capsys, problem, code):
    "The committed list is the default; files that are not as listed are named and make exit code 1"
    seen = []
    def rebuilt(selection, *places):
        seen[:] = [selection, *map(str, places)]
        return pd.DataFrame([("accent_archive/audio/a.flac", problem)][:problem is not None], columns=["file", "problem"])
    monkeypatch.setattr(adapters, "rebuild_selection", rebuilt)
    assert main(["select", "--common-voice", "cv", "--accent-archive", "saa", "--out", str(tmp_path / "real")]) == code
    assert seen == [ROOT / "paper" / "selection" / "real.csv", "cv", "saa", str(tmp_path / "real")] and ("a.flac" in capsys.readouterr().out) == (code == 1)
    assert main(["select", "--common-voice", "cv", "--accent-archive", "saa", "--out", str(tmp_path / "real"), "--selection", str(tmp_path / "no.csv")]) == 2


# ---- real speech

REAL = os.environ.get("MKDCLS_REAL")
real = pytest.mark.skipif(not REAL, reason="MKDCLS_REAL is not set: no real speech here")


@real
def test_real_common_voice(tmp_path, capsys):
    "A few locales, as a folder and through a zip"
    for locale in ("cy", "eo", "tt"): shutil.copytree(Path(REAL) / "common_voice" / locale, tmp_path / "cv" / locale)
    code = prepare(tmp_path / "cv", tmp_path / "out", workers=2)
    m, about = open_prepared(tmp_path / "out"), json.loads((tmp_path / "out" / "corpus.json").read_text("utf-8"))
    assert code == 0 and about["utterances"] > 30 and set(about["dropped"]) <= {"no age", "no gender", "other gender", "under 20"} and m["rate"].min() >= 32000
    source = pd.read_parquet(tmp_path / "out" / "manifest.parquet")["path"]
    for r, name in list(zip(m.itertuples(), source))[::10]:
        assert np.array_equal(Shards(tmp_path / "out" / "audio").read(r.shard, int(r.row)) / np.float32(2**15), read_audio(tmp_path / "cv" / name))
    assert prepare(packed(tmp_path / "cv", tmp_path / "cv.zip"), tmp_path / "zip") == 0 and files(tmp_path / "zip") == files(tmp_path / "out")


@real
def test_real_accent_archive(tmp_path):
    assert prepare(Path(REAL) / "accent_archive", tmp_path / "out", adapter="accent_archive") == 0
    m = open_prepared(tmp_path / "out")
    assert len(m) == 1092 and m["speaker"].nunique() == 364 and m["age"].notna().all()
