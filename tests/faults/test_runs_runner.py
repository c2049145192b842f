"""Features, pools, runners and the command line of results."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from faults.harness import ROOT, kinds
from faults.test_runs_store import CUTS
from mkdcls.engine import pool
from mkdcls.engine.codehash import unchanged
from mkdcls.engine.shards import write_shard
from mkdcls.intake import features as prepare
from mkdcls.results import runner as runners, sheets
from mkdcls.results.cli import check_parameters
from mkdcls.results.runner import Runner
from mkdcls.standin import draw_manifest


# ---- cached features

@pytest.fixture(scope="module")
def four(): return draw_manifest("FCVG", 4)


@pytest.fixture(scope="module")
def made(four, tmp_path_factory):
    "The files of a cache, and what it holds"
    with pytest.MonkeyPatch.context() as m:
        m.setenv("MKDCLS_RUNS", str(tmp_path_factory.mktemp("made")))
        f = prepare.features_of(four, "f", workers=0)
        folder = prepare.home() / "features" / "f"
        return {n: (folder / n).read_bytes() for n in ("values.f16", "index.npz")}, f


@pytest.fixture
def cache(made, tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    folder = tmp_path / "features" / "f"
    folder.mkdir(parents=True)
    for n, b in made[0].items(): (folder / n).write_bytes(b)
    return folder


def same(f, g): return all(torch.equal(getattr(f, n), getattr(g, n)) for n in ("values", "starts", "n_frames"))


@kinds("features", {f"{n}, {k}": (n, c) for n in ("values.f16", "index.npz") for k, c in CUTS.items() if (n, k) != ("index.npz", "its end twice")})
def test_damaged_features_are_made_again(fault, kind, cache, made, four):
    name, cut = kind
    (cache / name).write_bytes(cut(made[0][name]))
    heard = []
    got = fault.survives(lambda: prepare.features_of(four, "f", workers=0, say=heard.append), same_as=made[1], equal=same)
    assert len(got) == 4 and (not heard or "made again" in heard[0]), "a turned bit of the zip's own may change nothing"
    if name == "values.f16": assert len(heard) == 1


def index(folder, **changes):
    with np.load(folder / "index.npz") as z: kept = dict(z)
    kept |= {k: c(kept) for k, c in changes.items()}
    np.savez(folder / "index.npz", **kept)


INDEXES = {"beyond the file": dict(starts=lambda z: z["starts"] + 5), "two utterances exchanged": dict(starts=lambda z: z["starts"][::-1]),
           "lengths exchanged": dict(n_frames=lambda z: z["n_frames"][::-1]), "another width": dict(width=lambda z: 40),
           "no utterances": dict(starts=lambda z: z["starts"][:0]),
           "floats": dict(starts=lambda z: z["starts"] * 1.), "negative": dict(starts=lambda z: -z["starts"]),
           "another digest": dict(values=lambda z: np.array("0" * 32)),
           "another mark": dict(mark=lambda z: np.array("0" * 32))}


@kinds("features", INDEXES)
def test_an_index_that_leads_elsewhere(fault, kind, cache, made, four):
    index(cache, **kind)
    heard = []
    fault.survives(lambda: prepare.features_of(four, "f", workers=0, say=heard.append), same_as=made[1], equal=same)
    assert "made again" in heard[0]


def old(folder, values=None):
    with np.load(folder / "index.npz") as z: np.savez(folder / "index.npz", starts=z["starts"], n_frames=z["n_frames"], width=z["width"])


@kinds("features", {"sound": False, "with NaN": True})
def test_features_older_than_digests(fault, kind, cache, made, four):
    old(cache)
    if kind: (cache / "values.f16").write_bytes(b"\xff\x7f" + made[0]["values.f16"][2:])
    heard = []
    fault.survives(lambda: prepare.features_of(four, "f", workers=0, say=heard.append), same_as=made[1], equal=same)
    assert ("made again" if kind else "older than digests") in heard[0]
    fault.survives(lambda: prepare.features_of(four, "f", workers=0, say=lambda t: pytest.fail(t)), same_as=made[1], equal=same)


@kinds("features", {"another corpus": 3, "none": 0})
def test_features_of_another_number_of_rows(fault, kind, cache, four):
    call = lambda: prepare.features_of(four[:kind], "f", workers=0, say=lambda t: None)
    if kind: assert len(fault.survives(call)) == 3
    else: fault.refuses(call, "no utterances")


@kinds("features", {n: n for n in ("values.f16", "index.npz")})
def test_a_folder_for_features(fault, kind, cache, four):
    (cache / kind).unlink(); (cache / kind).mkdir()
    fault.refuses(lambda: prepare.features_of(four, "f", workers=0, say=lambda t: None), "is a folder: remove it")


@kinds("features", {"one gone": "gone", "cut": "cut", "of other rows": "rows"})
def test_a_chunk(fault, kind, cache, four, monkeypatch):
    for f in cache.iterdir(): f.unlink()
    monkeypatch.setattr(prepare, "CHUNK", 2)
    # the reference has the same chunks: on some processors a padded neighbour moves the last digit
    whole = prepare.features_of(four, "undisturbed", workers=0, say=lambda t: None)
    with monkeypatch.context() as m:
        m.setattr(prepare, "_join", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): prepare.features_of(four, "f", workers=0)
    file = cache / "00001.npz"
    if kind == "gone": file.unlink()
    elif kind == "cut": file.write_bytes(file.read_bytes()[:500])
    else: np.savez(file, values=np.zeros((9, 80), np.float16), n_frames=np.array([9]))
    got = fault.survives(lambda: prepare.features_of(four, "f", workers=0, say=lambda t: None))
    for i in range(4): assert torch.equal(got.batch(torch.tensor([i]))[0], whole.batch(torch.tensor([i]))[0])


# ---- prepared audio in training

@kinds("prepared audio", {"another sample": lambda w: w + 1, "cut": lambda w: w[:-1], "silence": lambda w: w * 0, "backwards": lambda w: w[::-1].copy()})
def test_prepared_audio_that_differs_from_its_checksum(fault, kind, tmp_path):
    import hashlib
    import pandas as pd
    wave = np.random.default_rng(0).integers(-999, 999, 9000).astype(np.int16)
    write_shard(tmp_path / "0.arrow", [kind(wave)])
    rows = pd.DataFrame(dict(utterance=["u"], path=[str(tmp_path / "0.arrow")], row=[0], duration=[1.1], checksum=[hashlib.sha256(wave).hexdigest()]))
    fault.refuses(lambda: prepare.waves_of_rows(rows), "0.arrow, row 0", "differ from the checksum", "delete this shard and run the same")


# ---- processes

SLEEPERS = "import sys; sys.path.insert(0, {root!r})\nfrom mkdcls.engine.pool import each\nimport time\nlist(each(time.sleep, [(60,), (60,)], 2))"


def children(pid): return [int(p) for p in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def alive(pid):
    try: return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError: return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at /proc")
@kinds("pools", {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "Ctrl-C to all": signal.SIGINT})
def test_workers_end_with_their_parent(fault, kind, tmp_path):
    def heed(): signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([sys.executable, "-c", SLEEPERS.format(root=str(ROOT))], stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed) as p:
        until = time.monotonic() + 30
        while len(mine := children(p.pid)) < 3 and time.monotonic() < until: time.sleep(.1)
        time.sleep(1.5)
        os.killpg(p.pid, kind) if kind == signal.SIGINT else os.kill(p.pid, kind)
        def ended():
            p.wait(20)
            until = time.monotonic() + 5
            while any(map(alive, mine)) and time.monotonic() < until: time.sleep(.05)
            return not any(map(alive, mine))
        fault.survives(ended, same_as=True)
        err = p.stderr.read()
    assert err.count("Traceback") <= (kind == signal.SIGINT), err  # the script's own, of a script that does not catch it


@kinds("pools", {"killed from outside": "import os; os.kill(os.getpid(), 9)", "ends itself": "import os; os._exit(3)"})
def test_a_worker_that_dies(fault, kind): fault.refuses(lambda: list(pool.each(exec, [(kind,), (kind,)], 2)), "ended from outside", "fewer workers")


@kinds("pools")
def test_a_job_that_fails_is_its_error(fault): fault.refuses(lambda: list(pool.each(np.load, [("nowhere-1",), ("nowhere-2",)], 2)), "nowhere")


@kinds("pools")
def test_a_beginning_that_fails_is_its_error(fault):
    fault.refuses(lambda: list(pool.each(abs, [(1,), (2,)], 2, np.load, ("no-such-beginning",))), "no-such-beginning")


UNGUARDED = "from mkdcls.engine.pool import each\nimport math\nprint(sorted(each(math.sqrt, [(4,), (9,)], 2)), 'is what came out')\n"


@kinds("pools", {"a file without a main guard": "file", "standard input": "stdin"})
def test_scripts(fault, kind, tmp_path):
    (tmp_path / "s.py").write_text(UNGUARDED)
    done = fault.run(["s.py"] if kind == "file" else ["-"], "2.0, 3.0", code=0, stdin=UNGUARDED if kind == "stdin" else None)
    assert done.err == ""


# ---- runners

@pytest.fixture
def smoke(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    return Runner("smoke")


CALLS = {"key": lambda r, *a: r.key(*a), "run": lambda r, *a: r.run(*a), "record": lambda r, *a: r.record(*a), "trained": lambda r, *a: r.trained(*a),
         "encoder": lambda r, *a: r.encoder_of(*a), "a plan": lambda r, *a: r.run_all([a])}


@kinds("runner", {f"{n}, row {row!r}": (c, row) for n, c in CALLS.items() for row in ("99", 1, None)})
def test_rows_that_are_not_there(fault, kind, smoke): fault.refuses(lambda: kind[0](smoke, kind[1], 0), "no row .* in this plan; it has 1, 2, 3")


@kinds("runner", {f"{n}, seed {s!r}": (c, s) for n, c in CALLS.items() for s in ("0", -1, 1.5, None, True)})
def test_seeds_that_are_none(fault, kind, smoke): fault.refuses(lambda: kind[0](smoke, "1", kind[1]), "seed .*: a whole number, 0 or more")


@kinds("runner", {f"{n} seeds, {s}": (n, s) for n in (0, -1, "two", 1_000_000, None, 2.5) for s in ("table1", "seo_kim")})
def test_numbers_of_seeds(fault, kind, smoke): fault.refuses(lambda: sheets.plans(kind[1], "smoke", kind[0]), "SEEDS=", "at (least|most)", limit=5)


@kinds("runner", {n: v for n, v in {"text": "two", "0": 0, "negative": -3, "half": .5}.items()})
def test_numbers_of_workers(fault, kind, smoke): fault.refuses(lambda: smoke.run_all([("1", 0)], workers=kind), "WORKERS=", "at least 1")


@kinds("runner", {"text": "many", "0": "0", "negative": "-2"})
def test_workers_of_the_environment(fault, kind, smoke, monkeypatch):
    monkeypatch.setenv("MKDCLS_WORKERS", kind)
    fault.refuses(lambda: smoke.run_all([("1", 0)]), "MKDCLS_WORKERS=", "at least 1")


@kinds("runner", {"trained": lambda r: r.trained("1", 0), "encoder": lambda r: r.encoder_of("1", 0)})
def test_a_row_that_was_not_run(fault, kind, smoke): fault.refuses(lambda: kind(smoke), "it has not been run", r"run it first, Runner.run\('1', 0\)")


@kinds("runner")
def test_a_row_of_other_code_is_told_so(fault, smoke):
    import pandas as pd
    from records import record
    ident = smoke.key("1", 0)[0]
    smoke.store.at("1", 0, "old").mkdir()
    smoke.store.finish(record("1", 0, "old", identity=ident | dict(protocol="0")), pd.DataFrame(dict(u=[1])))
    fault.refuses(lambda: smoke.trained("1", 0), "from before this changed: protocol: 0", "run it first")


@kinds("runner")
def test_a_relative_corpus_is_the_same_corpus(fault, tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path)); monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text("")
    fault.survives(lambda: Runner("smoke", "c.toml").name, same_as=Runner("smoke", str(tmp_path / "c.toml")).name)


PATCHES = {"a loss": ("mkdcls.objective", "asymmetric_loss", lambda *a, **k: 0), "a loss where it is defined": ("mkdcls.asymmetric",
        "asymmetric_loss", lambda *a, **k: 0),
           "the step": ("mkdcls.training", "forward_loss", print), "a constant": ("mkdcls.labels", "PARENT", (0, 0, 0, 1, 2)),
           "a class more": ("mkdcls.labels", "TASKS", dict(gender=2, agesup=3, agesub=5, accent=4)), "a model": ("mkdcls.model", "MultiTaskModel", torch.nn.Linear)}


@kinds("runner", {f"replaced: {n}": p for n, p in PATCHES.items()})
def test_what_was_replaced_in_a_module(fault, kind, smoke, monkeypatch):
    module, name, value = kind
    monkeypatch.setattr(f"{module}.{name}", value)
    fault.refuses(lambda: smoke.run("1", 0), f"{name} is not what its file defines", "start Python again")


@kinds("runner")
def test_nothing_replaced(fault, smoke): fault.survives(lambda: unchanged(*smoke.key("6", 0)[0]["code"]), same_as="")


@kinds("runner", {"an answer of a method": ("mkdcls.model.MultiTaskModel.forward", lambda *a: 1), "settings": ("mkdcls.training.Settings.rate", lambda *a: 1.)})
def test_a_method_that_was_replaced(fault, kind, smoke, monkeypatch):
    monkeypatch.setattr(*kind)
    fault.refuses(lambda: smoke.run("1", 0), "is not what its file defines")


# ---- commands

COMMANDS = {"seeds 0": (["--seeds", "0"], "SEEDS=0: at least 1"), "seeds -1": (["--seeds", "-1"], "SEEDS=-1: at least 1"), "a million seeds": (["--seeds",
        "1000000"], "at most 100"),
            "seeds two": (["--seeds", "two"], "invalid int value: 'two'"), "seeds empty": (["--seeds", ""], "invalid int"), "workers 0": (["--workers", "0"],
            "WORKERS=0: at least 1"),
            "workers many": (["--workers", "many"], "not a whole number"), "preset": (["--preset", "desk"], "no preset 'desk'; choose"),
            "device": (["--preset", "smoke", "--device", "abacus"], "choose auto, cpu or cuda"), "an option too many": (["--colour", "red"], "unrecognized arguments"),
            "no such corpus": (["--preset", "smoke", "--corpus", "nowhere.toml"], "there is no such file"), "out with NUL": (["--preset", "smoke", "--out",
            "a\0b"], "OUT=.*NUL"),
            "corpus with NUL": (["--preset", "smoke", "--corpus", "a\0b"], "CORPUS=.*NUL"), "real with NUL": (["--preset", "smoke", "--corpus", "real", "--real",
            "a\0b"], "REAL=.*NUL"),
            "real without a folder": (["--preset", "smoke", "--corpus", "real"], "REAL=<folder"), "out of nobody": (["--preset", "smoke", "--out",
            "~nobody-here/x"], "leads to no folder")}


@kinds("commands", {f"{c[0]}, {n}": (c, *v) for c in (["table1"], ["table", "--sheet", "seo_kim"]) for n, v in COMMANDS.items()})
def test_mistakes_on_the_command_line(fault, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    done = fault.command([*kind[0], *kind[1]], kind[2])
    assert len(done.err.strip().splitlines()) == 1 and done.out == ""


@kinds("commands", {"no sheet": ["table"], "another sheet": ["table", "--sheet", "table9"], "nothing": [], "another command": ["tabel1"]})
def test_commands_that_are_none(fault, kind): assert len(fault.command(kind).err.strip().splitlines()) == 1


@kinds("commands", {"out is a file": "file", "out below a file": "file/below"})
def test_files_for_out(fault, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    (tmp_path / "file").write_text("mine")
    fault.command(["table1", "--preset", "smoke", "--out", tmp_path / kind], "cannot write to .*file", "OUT=")
    assert (tmp_path / "file").read_text() == "mine"


@kinds("commands", {"runs is a file": "file", "runs below a file": "file/x", "runs of nobody": "~nobody-here/x"})
def test_files_for_runs(fault, kind, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MKDCLS_RUNS", kind if kind[0] == "~" else str(tmp_path / kind))
    fault.command(["table1", "--preset", "smoke"], "MKDCLS_RUNS")


@kinds("papermill", {"relative": "results", "relative, below": "../x"})
def test_a_relative_out_in_a_notebook(fault, kind): fault.refuses(lambda: check_parameters(dict(out=kind), ("out",)), "give a whole path")


@kinds("papermill", {"a name nobody reads": dict(sedes=2)})
def test_a_parameter_that_is_none(fault, kind): fault.refuses(lambda: check_parameters(kind, ("seeds",)), "no parameter sedes")


@kinds("papermill")
def test_a_kernel_that_is_killed(fault, tmp_path):
    "As for want of memory"
    import nbformat
    from mkdcls.results.cli import run_notebook
    cells = [nbformat.v4.new_code_cell("seeds = 1", metadata=dict(tags=["parameters"])), nbformat.v4.new_code_cell("import os; os.kill(os.getpid(), 9)")]
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata["kernelspec"] = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(nb, tmp_path / "n.ipynb")
    fault.refuses(lambda: run_notebook(tmp_path / "n.ipynb", tmp_path / "out.ipynb", dict(seeds=2)), "ended from outside", "WORKERS=1", limit=90)
    assert not (tmp_path / "out.ipynb").exists() and runners.SEEDS == 100
