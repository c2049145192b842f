"""Checkpoints: resumed to the bit, or not at all."""
import copy

import pytest
import torch

from faults.harness import kinds
from faults.test_runs_store import CUTS
from mkdcls.encoders import encoder
from mkdcls.engine.features import Features
from mkdcls.model import MultiTaskModel
from mkdcls.objective import Objective
from mkdcls.training import BadCheckpoint, Data, Settings, fit, load_checkpoint, save_checkpoint
from mkdcls.verification.losses import SoftmaxHead
from mkdcls.verification.training import SpeakerData, SpeakerSettings, fit_speakers

S = Settings(epochs=2, batch=4, lr=1e-3, drops=())
SPEAKERS = SpeakerSettings(epochs=2, batch=4, optimiser="adam", lr=1e-3, schedule="step", crop=8, mask=False)


class Killed(Exception): pass


class Toy(torch.nn.Module):
    embed_dim = 4
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(80, 4)
    def forward(self, x):
        from mkdcls.encoders import EncoderOutput
        e = self.layer(x).mean(1)
        return EncoderOutput(e, e)


def features():
    g = torch.Generator().manual_seed(0)
    n = torch.full((12,), 12)
    return Features(torch.randn(144, 80, generator=g).half(), n.cumsum(0) - n, n)


def multi(file, progress=lambda *a: None):
    torch.manual_seed(0)
    model = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender",))
    curves = fit(model, Data(features(), dict(gender=torch.arange(12) % 2), torch.arange(12)), Objective(), S, 0, file, key="k", save_every=0., progress=progress)
    return [c["total"] for c in curves], model.state_dict()


def speakers(file, progress=lambda *a: None):
    torch.manual_seed(0)
    net, head = Toy(), SoftmaxHead(4, 3)
    curves = fit_speakers(net, head, SpeakerData(features(), torch.arange(12) % 3, torch.arange(12)), SPEAKERS, 0, file, "k", 0., progress=progress)
    return [c["total"] for c in curves], net.state_dict()


LOOPS = {"tasks": multi, "speakers": speakers}


def equal(a, b): return a[0] == b[0] and all(torch.equal(a[1][k], b[1][k]) for k in a[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "Of each loop: what it gives undisturbed, and its checkpoint in the midst of epoch 2"
    out = {}
    for name, loop in LOOPS.items():
        file = tmp_path_factory.mktemp(name) / "c.pt"
        def die(epoch, step, *_):
            if (epoch, step) == (2, 3): raise Killed
        with pytest.raises(Killed): loop(file, die)
        out[name] = loop(None), file.read_bytes()
    return out


@pytest.fixture(params=LOOPS)
def started(request, whole, tmp_path):
    (tmp_path / "c.pt").write_bytes(whole[request.param][1])
    return LOOPS[request.param], tmp_path / "c.pt", whole[request.param][0]


@kinds("checkpoints")
def test_a_kill_changes_nothing(fault, started):
    loop, file, want = started
    fault.survives(lambda: loop(file), same_as=want, equal=equal)


@kinds("checkpoints", CUTS | {"older than digests": lambda b: b[:-40], "a byte of the digest": lambda b: b[:-1] + b"x"})
def test_a_damaged_checkpoint(fault, kind, started):
    loop, file, _ = started
    file.write_bytes(kind(file.read_bytes()))
    fault.refuses(lambda: loop(file), "c.pt", "delete it", by=BadCheckpoint)


def without(name): return lambda s: s.pop(name)
def put(**more): return lambda s: s.update(more)


STATES = {"of another run": put(key="other"), "without a key": without("key"), **{f"without {n}": without(n) for n in ("model", "optimiser", "curves", "at",
        "sums", "seconds")},
          "a step beyond its epoch": put(at=(2, 4)), "far beyond its epoch": put(at=(2, 99)), "beyond the last epoch": put(at=(9, 0)),
          "a step after the end": put(at=(3, 1)),
          "done already": put(at=(3, 0)), "an epoch ahead": put(at=(2, 0)), "an epoch back": put(at=(1, 2)), "epoch 0": put(at=(0, 0)),
          "a negative step": put(at=(2, -1)),
          "text for a position": put(at="end"), "half a position": put(at=(2,)), "a broken position": put(at=(2., 1.5)), "none for a position": put(at=None),
          "no curves": put(curves=[]), "curves of two epochs": lambda s: s["curves"].append(dict(s["curves"][0], epoch=2)), "no sums": put(sums={}),
          "sums that are no numbers": lambda s: s["sums"].update(total=torch.tensor(float("nan"))),
          "a tensor less": lambda s: s["model"].pop(next(iter(s["model"]))), "a tensor more": lambda s: s["model"].update(x=torch.zeros(1)),
          "a wider tensor": lambda s: s["model"].update({next(iter(s["model"])): torch.zeros(99)}),
          "an optimiser of nothing": put(optimiser={}), "an optimiser of other parameters": lambda s: s["optimiser"]["param_groups"][0]["params"].pop()}


@kinds("checkpoints", STATES)
def test_a_checkpoint_that_does_not_fit(fault, kind, started):
    loop, file, _ = started
    state = copy.deepcopy(load_checkpoint(file, "k"))
    kind(state)
    save_checkpoint(file, state)
    fault.refuses(lambda: loop(file), "c.pt", "delete it", by=BadCheckpoint)


@kinds("checkpoints", {"a list": [1], "a number": 3, "a tensor": torch.zeros(3)})
def test_no_state_at_all(fault, kind, started):
    loop, file, _ = started
    save_checkpoint(file, kind)
    fault.refuses(lambda: loop(file), "c.pt", "delete it", by=BadCheckpoint)


@kinds("checkpoints")
def test_a_folder_for_a_checkpoint(fault, started):
    loop, file, _ = started
    file.unlink(); file.mkdir()
    fault.refuses(lambda: loop(file), "is no file", "remove it")


@kinds("checkpoints")
def test_code_in_a_checkpoint_is_not_run(fault, started, tmp_path):
    loop, file, _ = started
    class Trap:
        def __reduce__(self): return __import__("os").mkdir, (str(tmp_path / "run"),)
    save_checkpoint(file, dict(key="k", model=Trap()))
    fault.refuses(lambda: loop(file), "c.pt", "delete it", by=BadCheckpoint)
    assert not (tmp_path / "run").exists()
