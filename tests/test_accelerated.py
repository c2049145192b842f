"""One run by several processes, in parts, in bfloat16 (page 11, mkdcls.results.accelerated): equal to one process where it must be.

Two threads that meet at a barrier play two processes where no dropout is drawn; the slow tests start real ones with
`accelerate launch`, which speak over gloo. Whole runs are compared in float64: in float32, ReLU and Adam turn the last bit
of a sum into another network within a dozen steps, on one process as well.
"""
import json
import os
import subprocess
import sys
import threading
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mkdcls.encoders import EncoderOutput, encoder
from mkdcls.engine.features import Features
from mkdcls.engine.store import RunStore
from mkdcls.labels import PARENT
from mkdcls.model import MultiTaskModel
from mkdcls.objective import Objective
from mkdcls.results import accelerated
from mkdcls.results.accelerated import NO_ACCELERATE, Team, accelerator_for, as_team, fit_shared, moments, step
from mkdcls.results.accelerated_runner import AcceleratedRunner, train_row
from mkdcls.results.cli import main
from mkdcls.results.runner import Runner
from mkdcls.training import Data, Settings, encode_all, fit, forward_loss

ROOT = Path(__file__).resolve().parents[1]
try: import accelerate
except ImportError: accelerate = None
accelerate_only = pytest.mark.skipif(accelerate is None, reason="accelerate (extra \"cluster\") is not installed")
ALL = Objective(age_loss="asl", dist="cos", dep="corrected")
S = Settings(epochs=2, lr=3e-3, batch=7, student_view="mixup", max_frames=50)


class Wide(Features):
    "Batches in float64"
    def batch(self, *args):
        x, n = super().batch(*args)
        return x.double(), n


def toy(kind=Wide):
    "20 training utterances: batches of 7, 7 and 6 at batch 7"
    g = torch.Generator().manual_seed(0)
    n = torch.randint(30, 60, (21,), generator=g)
    values = torch.randn(int(n.sum()), 80, generator=g).half()
    y = {"gender": torch.arange(21) % 2, "agesup": torch.tensor(PARENT)[torch.arange(21) % 5], "agesub": torch.arange(21) % 5}
    torch.manual_seed(9)
    k = encode_all(encoder("ecapa", "teacher", scale_name="smoke"), Features(values, n.cumsum(0) - n, n))
    dtype = torch.float64 if kind is Wide else torch.float32
    return Data(kind(values, n.cumsum(0) - n, n), y, torch.arange(20), EncoderOutput(*(v.to(dtype) for v in k)))


def fresh(family="ecapa", dtype=torch.float64, **more):
    torch.manual_seed(9)
    teacher = encoder("ecapa", "teacher", scale_name="smoke")
    torch.manual_seed(0)
    student = encoder(family, "student", scale_name="smoke", **(dict(masked=True) if family == "resnet" else {}))
    model = MultiTaskModel(student, ("gender", "agesup", "agesub"), teacher, **more).to(dtype)
    model.adapter.float()  # as the losses are
    return model


def untimed(curves): return [{k: v for k, v in c.items() if k != "seconds"} for c in curves]


def close(a, b, **tolerance):
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values()):
        assert_close(p, q, msg=lambda m, name=name: f"{name}: {m}", **tolerance)


def stilled(model):
    "BatchNorm with the statistics it has, whatever mode it is put in"
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm): m.train = lambda mode=True, m=m: nn.Module.train(m, False)
    return model


def together(size, work, **more):
    "What `work(team)` gives in each of several threads, whose sums are over all of them"
    barrier, there = threading.Barrier(size, timeout=60), [None] * size
    found, wrong = [None] * size, []
    def one(rank):
        def add(v):
            there[rank] = v.detach().clone()
            barrier.wait()
            total = sum(there)
            barrier.wait()
            return total
        try: found[rank] = work(Team(size, rank, add=add, **more))
        except BaseException as e: wrong.append(e); barrier.abort()
    threads = [threading.Thread(target=one, args=(r,)) for r in range(size)]
    for t in threads: t.start()
    for t in threads: t.join()
    if wrong: raise next((e for e in wrong if not isinstance(e, threading.BrokenBarrierError)), wrong[0])
    return found


# ---- one process

@pytest.mark.parametrize("settings", [S, replace(S, student_view="both", batch=6), replace(S, student_view="normal", teacher_view="mixup"),
                                      replace(S, precision="bf16")])
def test_alone_and_whole_it_is_page_11_bit_for_bit(settings):
    "Dropout, cuts and masks among it: the draws are those of page 11"
    data = toy(Features)
    if settings.teacher_view == "mixup": data = replace(data, k=None)
    mine, theirs = fresh(dtype=torch.float32), fresh(dtype=torch.float32)
    assert untimed(fit_shared(mine, data, ALL, settings, 3)) == untimed(fit(theirs, data, ALL, settings, 3))
    assert all(torch.equal(p, q) for p, q in zip(mine.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_are_the_batch_but_for_batchnorm(parts):
    "With the statistics frozen, a batch of 7 in parts (4 + 3, or 3 + 2 + 2) is the batch; dropout is drawn all the same"
    data, whole, cut = toy(), stilled(fresh()), stilled(fresh())
    a, b = fit(whole, data, ALL, S, 0), fit_shared(cut, data, ALL, S, 0, team=Team(accumulation=parts))
    close(whole, cut, rtol=1e-6, atol=1e-7)  # logits are float32
    assert_close([c["total"] for c in a], [c["total"] for c in b], rtol=1e-5, atol=0)


def test_batchnorm_sees_a_part():
    "What differs: each part has statistics of its own, and the running ones move once a part"
    data, whole, cut = toy(), fresh(), fresh()
    fit(whole, data, ALL, replace(S, epochs=1), 0)
    fit_shared(cut, data, ALL, replace(S, epochs=1), 0, team=Team(accumulation=2))
    norm = lambda m: m.student.stem.norm
    assert norm(whole).num_batches_tracked == 3 and norm(cut).num_batches_tracked == 6
    assert (norm(whole).running_mean - norm(cut).running_mean).abs().max() > 1e-3


def test_bfloat16_stays_near():
    data = toy(Features)
    wide, narrow = (fit_shared(fresh(dtype=torch.float32, dropout=0.), data, ALL, replace(S, epochs=1, precision=p), 0) for p in ("float32", "bf16"))
    assert wide != narrow
    for t in ("gender", "agesup", "agesub", "total"): assert narrow[0][t] == pytest.approx(wide[0][t], rel=.1)


# ---- a team

def test_every_row_once_whatever_the_batch():
    for size in (1, 2, 3, 5):
        for parts in (1, 2, 4):
            for n in (2, 3, 7, 8, 20):
                dealt = [Team(size, r, parts).shares(n) for r in range(size)]
                assert len({len(d) for d in dealt}) == 1, "all processes make the same number of parts"
                weights = sum(w for d in dealt for _, w, _ in d)
                assert weights == pytest.approx(1)
                if n >= size: assert sorted(int(i) for d in dealt for rows, *_ in d for i in rows) == list(range(n))
                else: assert all(len(d[0][0]) == n and d[0][2] for d in dealt), "too small to be dealt: whole, and alone"
                assert all(sum(len(d[p][0]) for d in dealt) > 1 for p in range(len(dealt[0]))), "BatchNorm cannot train on one"


def test_moments_by_hand():
    "1, 2 and 3, 6, 8: mean 4, variance (9 + 4 + 1 + 4 + 16) / 5 = 6.8; a mean of the shares' means would be 3.58"
    x = torch.tensor([1., 2., 3., 6., 8.])[:, None]
    for mean, var, n in together(2, lambda team: moments(x.split([2, 3])[team.rank], team)):
        assert (float(mean), float(n)) == (4., 5.) and float(var) == pytest.approx(6.8)


@pytest.mark.parametrize("family, view, batch", [("ecapa", "mixup", 7), ("resnet", "both", 7), ("ecapa", "normal", 2)])
def test_two_take_the_step_of_one(family, view, batch):
    "Ledger, gradients and running statistics, where 7 rows are dealt as 4 and 3; without dropout, for threads share its generator"
    data, s, index = toy(), replace(S, student_view=view), torch.arange(20)[:batch]
    one, two = fresh(family, dropout=0.), [fresh(family, dropout=0.) for _ in range(2)]
    want = forward_loss(one.train(), data, index, ALL, s, 5)
    want["total"].backward()
    def work(team):
        model = two[team.rank].train()
        with as_team(model, team): ledger = step(model, data, index, ALL, s, 5, team)
        ledger["total"].backward()
        return {t: v.detach() for t, v in ledger.items()}
    for ledger in together(2, work): assert_close(ledger, {t: v.detach() for t, v in want.items()}, rtol=1e-5, atol=1e-6)
    for model in two:
        close(one, model, rtol=1e-9, atol=1e-10)  # its buffers moved
        for (name, p), q in zip(one.named_parameters(), model.parameters()):
            if p.grad is not None: assert_close(q.grad, p.grad, rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_unshared_statistics_are_another_gradient():
    "What the shared ones are for: with statistics of its share alone, a process pulls elsewhere"
    data, index = toy(), torch.arange(7)
    gradients = []
    for team in (Team(), Team(accumulation=2)):
        model = fresh(dropout=0.).train()
        with as_team(model, team): step(model, data, index, ALL, S, 5, team)["total"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) < .999


def test_the_model_is_as_it_was():
    model = fresh()
    with as_team(model, Team()): pass
    assert not any("forward" in vars(m) for m in model.modules())


# ---- bad input

def test_a_batch_that_cannot_be_dealt():
    with pytest.raises(ValueError, match=r"a batch of 7 utterances cannot be dealt to 8 process\(es\) in 1 part\(s\): it takes 8 or more"):
        fit_shared(fresh(), toy(), ALL, S, 0, team=Team(8))
    with pytest.raises(ValueError, match=r"in 4 part\(s\): it takes 8 or more"): fit_shared(fresh(), toy(), ALL, S, 0, team=Team(accumulation=4))


def test_only_known_layers():
    "A mask or a statistic that is not shared would be another one in each process, silently"
    class Odd(nn.BatchNorm1d):
        def forward(self, x): return x
    for layer in (Odd(3), nn.Dropout2d(), nn.AlphaDropout()):
        with pytest.raises(ValueError, match="only torch's BatchNorm and Dropout"), as_team(nn.Sequential(layer), Team(2)): pass


def test_missing_accelerate_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(["train", "3", "--preset", "smoke", "--accumulation", "2"]) == 2
    assert capsys.readouterr().err == f"mkdcls train: {NO_ACCELERATE}\n"


@accelerate_only
@pytest.mark.parametrize("env, device, line", [
    ({}, "cuda:1", "choose auto, cpu or cuda"),
    ({}, "tpu", "choose auto, cpu or cuda"),
    ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "cpu", "choose no or bf16"),
    ({"MIXED_PRECISION": "fp8"}, "cpu", "choose no or bf16"),  # as the notebook launcher says it
    ({"MASTER_PORT": "29500"}, "cpu", "leave --cpu out, and give --multi_gpu"),
])
def test_what_is_not_there_is_one_line(monkeypatch, env, device, line):
    for name in ("ACCELERATE_MIXED_PRECISION", "MIXED_PRECISION", *accelerated.SIZES_OF_GROUPS): monkeypatch.delenv(name, raising=False)
    for name, value in env.items(): monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=line): accelerator_for(device)


@accelerate_only
def test_gpus_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda': torch finds none here"): accelerator_for("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"4 processes, but torch finds 1 GPU\(s\) here"): accelerator_for("auto")


# ---- runs and keys

def accelerated_runner(monkeypatch, tmp_path, **more):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    return AcceleratedRunner("smoke", device="cpu", **more)


def test_another_computation_has_another_key(monkeypatch, tmp_path):
    runner = accelerated_runner(monkeypatch, tmp_path, team=Team())
    plain = Runner("smoke", device="cpu")
    assert runner.key("6", 0)[1] == plain.key("6", 0)[1], "one process, whole batches: the same run"
    others = [dict(team=Team(2)), dict(team=Team(2, 1)), dict(team=Team(accumulation=2)), dict(team=Team(), bf16=True), dict(team=Team(3))]
    keys = [AcceleratedRunner("smoke", device="cpu", **o).key("6", 0)[1] for o in others]
    assert keys[0] == keys[1], "all processes mean the same run"
    assert len({plain.key("6", 0)[1], *keys}) == 5
    ident = AcceleratedRunner("smoke", device="cpu", team=Team(2)).key("6", 0)[0]
    assert ident["accelerated"] == dict(processes=2, accumulation=1) and "mkdcls.results.accelerated" in ident["code"]
    assert "accelerated" not in plain.key("6", 0)[0]


def test_rows_that_look_across_a_batch_are_refused(monkeypatch, tmp_path):
    runner = accelerated_runner(monkeypatch, tmp_path, team=Team(2))
    runner.rows["6"] = replace(runner.rows["6"], context="backdoor")
    with pytest.raises(ValueError, match="exchanges K within a batch"): runner.check("6")
    runner.rows["6"] = replace(runner.rows["6"], context="none", remedy=(("match", 1.),))
    with pytest.raises(ValueError, match="has remedies"): runner.check("6")
    runner.rows["5"] = replace(runner.rows["5"], settings=replace(runner.rows["5"].settings, batch=1))
    with pytest.raises(ValueError, match="cannot be dealt"): runner.check("5")
    with pytest.raises(ValueError, match="no row '99'"): runner.check("99")


class Killed(Exception): pass


@pytest.mark.slow
def test_a_team_goes_on_where_it_was_killed(monkeypatch, tmp_path):
    "All processes resume from the first one's checkpoint; only the first writes into the store, and its record is whole"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    seen, meet = {0: [], 1: []}, threading.Barrier(2, timeout=60)
    def work(team, until):
        def progress(what, done, of):
            if "row" not in what: return
            if done > until * of: raise Killed
            seen[team.rank].append(done / of)
        if not team.first: meet.wait()
        runner = AcceleratedRunner("smoke", device="cpu", team=team, wait=lambda: team.add(torch.zeros(1)), progress=progress)
        if team.first: meet.wait()
        return runner.run("3", 0)
    with pytest.raises(Killed): together(2, lambda team: work(team, .5))
    folder, = tmp_path.glob("standin-smoke/row3-*")
    assert [p.name for p in folder.iterdir()] == ["checkpoint.pt"] and max(seen[0]) == .5
    for of in seen.values(): of.clear()
    first, second = together(2, lambda team: work(team, 1))
    assert min(seen[0]) > .5 and seen[0] == seen[1] and first == second and len(first["curves"]) == 2
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "predictions.parquet", "record.json"]
    assert [p.name for p in tmp_path.glob("standin-smoke/*")] == [folder.name]


# ---- real processes

SCRIPT = """
import sys, torch
sys.path[:0] = [{tests!r}, {root!r}]
from dataclasses import replace
from test_accelerated import ALL, S, Team, fit_shared, fresh, toy
from mkdcls.results.accelerated import accelerator_for
a = accelerator_for("cpu")
found = {{"size": a.num_processes}}
for name, (family, s, parts) in {{"ecapa": ("ecapa", S, 1), "resnet": ("resnet", replace(S, student_view="both"), 1), "parts": ("ecapa", S, 2)}}.items():
    model = fresh(family)
    curves = fit_shared(model, toy(), ALL, s, 0, team=Team.of(a, parts))
    found[name] = dict(curves=curves, model=model.state_dict())
torch.save(found, f"{{sys.argv[1]}}/{{a.process_index}}.pt")
a.end_training()
"""
LAUNCH = ("-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
          "--dynamo_backend", "no", "--main_process_port", "0")


def launch(*command, precision="no", **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE", "MASTER"))}
    return subprocess.run([sys.executable, *LAUNCH, "--mixed_precision", precision, *map(str, command)], cwd=ROOT, capture_output=True, text=True,
                          env=clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | env, timeout=300)


@pytest.mark.slow
@accelerate_only
def test_two_processes_over_gloo_are_one(tmp_path):
    "Two epochs of uneven batches with mixup, cuts, dropout, K and all terms of Eq. 3, in float64: one process' weights, statistics and curves"
    (script := tmp_path / "two.py").write_text(SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT)))
    done = launch(script, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert first["size"] == 2
    for name, (family, s, parts) in {"ecapa": ("ecapa", S, 1), "resnet": ("resnet", replace(S, student_view="both"), 1), "parts": ("ecapa", S, 2)}.items():
        model = fresh(family)
        curves = untimed(fit_shared(model, toy(), ALL, s, 0, team=Team(accumulation=2)) if parts == 2 else fit(model, toy(), ALL, s, 0))
        assert all(torch.equal(first[name]["model"][n], v) for n, v in second[name]["model"].items()), "both hold the same weights"
        for n, v in model.state_dict().items(): assert_close(first[name]["model"][n], v, rtol=1e-6, atol=1e-7, msg=lambda m, at=f"{name}, {n}": f"{at}: {m}")
        for mine, theirs in zip(untimed(first[name]["curves"]), curves):
            assert mine.keys() == theirs.keys() and mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
@accelerate_only
def test_the_command_line(tmp_path, monkeypatch):
    "`accelerate launch -m mkdcls train`: one run under its own key, written by the first process, near the plain one; asked again, it is found"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    plain = Runner("smoke", device="cpu")
    alone = plain.run("3", 0)
    done = launch("-m", "mkdcls", "train", "3", "--preset", "smoke", "--device", "cpu", MKDCLS_RUNS=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("It has a key of its own.") == 1 and done.stdout.count("row 3, seed 0, key ") == 1, "one process speaks"
    other, = RunStore("standin-smoke").others("3", 0, alone["key"])
    assert other["identity"]["accelerated"] == dict(processes=2, accumulation=1) and other["key"] in done.stdout
    # float32 on a processor's own rounding: by 0.0006 and 0.007 apart under five arithmetics; another seed is by 0.016 and 0.047 apart
    for mine, theirs, apart in zip(other["curves"], alone["curves"], (.005, .03), strict=True): assert mine["total"] == pytest.approx(theirs["total"], rel=apart)
    names = lambda key: sorted(p.name for p in plain.store.at("3", 0, key).iterdir())
    assert names(other["key"]) == names(alone["key"]) == ["model.safetensors", "predictions.parquet", "record.json"]
    assert len(list(plain.store.folder.iterdir())) == 2
    assert json.loads((plain.store.at("3", 0, alone["key"]) / "record.json").read_text())["key"] == plain.key("3", 0)[1]


@pytest.mark.slow
@accelerate_only
def test_a_mistake_is_told_once(tmp_path):
    done = launch("-m", "mkdcls", "train", "3", "--preset", "smoke", "--device", "cpu", "--batch", "2", "--accumulation", "2", MKDCLS_RUNS=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.count("mkdcls train: a batch of 2 utterances cannot be dealt to 2 process(es) in 2 part(s): it takes 4 or more\n") == 1


def test_without_launcher_it_is_the_plain_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    made = []
    monkeypatch.setattr(Runner, "run", lambda self, row, seed: made.append((type(self), row, seed)))
    train_row("3", 1, "smoke", device="cpu")
    assert made == [(Runner, "3", 1)]
    assert accelerated.launched() is False and deepcopy(Team()).plain
