"""Page 11: schedule, order, clip, checkpoints and re-estimated statistics, each against a number worked out by hand or a run that nobody disturbed."""
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from mkdcls import training
from mkdcls.encoders import encoder
from mkdcls.engine.features import Features
from mkdcls.labels import PARENT
from mkdcls.mixup import MixupSettings
from mkdcls.model import MultiTaskModel
from mkdcls.objective import Objective
from mkdcls.training import Data, Settings, batches, encode_all, first_model, fit, forward_loss, load_checkpoint, reestimate, seed_at, train

MKD = Objective(dist="cos")
S = Settings(epochs=2, lr=3e-3, batch=8, student_view="mixup")


@pytest.fixture(scope="module")
def data():
    g = torch.Generator().manual_seed(0)
    n = torch.randint(30, 60, (21,), generator=g)
    f = Features(torch.randn(int(n.sum()), 80, generator=g).half(), n.cumsum(0) - n, n)
    y = {"gender": torch.arange(21) % 2, "agesup": torch.arange(21) % 3, "agesub": torch.arange(21) % 5}
    torch.manual_seed(9)
    return Data(f, y, torch.arange(20), encode_all(encoder("ecapa", "teacher", scale_name="smoke"), f))  # the last utterance is not for training


def fresh(teacher=True, **more):
    torch.manual_seed(9)
    t = encoder("ecapa", "teacher", scale_name="smoke") if teacher else None
    torch.manual_seed(0)
    return MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"), t, **more)


def same(a, b): return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values()))


def untimed(curves): return [{k: v for k, v in c.items() if k != "seconds"} for c in curves]


# ---- schedule, order, seeds

def test_schedule_by_hand():
    "1e-4 in epoch 1, then 0.8 of it at the start of epochs 2, 6 and 10"
    want = [1e-4] + [8e-5] * 4 + [6.4e-5] * 4 + [5.12e-5]
    assert [Settings().rate(e) for e in range(1, 11)] == pytest.approx(want)
    assert Settings(lr=1., factor=.5, drops=(3,)).rate(2) == 1. and Settings(lr=1., factor=.5, drops=(3,)).rate(3) == .5


def test_the_loop_uses_the_schedule(data):
    assert [c["lr"] for c in fit(fresh(), data, MKD, replace(S, epochs=3, factor=.5, drops=(2, 3)), 0)] == [3e-3, 1.5e-3, 7.5e-4]


def test_every_utterance_once_and_never_alone():
    n = torch.arange(25) + 30
    for batch, sizes in ((12, [12, 13]), (8, [8, 8, 9]), (5, [5] * 5), (30, [25])):
        out = batches(n, batch, seed=3)
        assert sorted(len(b) for b in out) == sizes and sorted(torch.cat(out).tolist()) == list(range(25))
    assert [len(b) for b in batches(n[:1], 12, 0)] == [1]


def test_order_depends_on_the_seed_alone():
    n = torch.randint(30, 90, (200,), generator=torch.Generator().manual_seed(0))
    order = lambda seed: [b.tolist() for b in batches(n, 12, seed)]
    first = order(1)
    torch.manual_seed(77); torch.rand(5)
    assert order(1) == first != order(2)
    assert all((n[b].diff() >= 0).all() for b in batches(n, 12, 1)[:-1] if len(b) == 12), "inside a batch by length"


def test_seeds_of_positions_differ(): assert len({seed_at(s, e, i) for s in range(5) for e in range(9) for i in range(30)}) == 5 * 9 * 30


def test_first_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    a = first_model("ecapa", "student", 0, scale="smoke")
    torch.manual_seed(6)
    before = torch.get_rng_state()
    b = first_model("ecapa", "student", 0, scale="smoke", tasks=("gender",))
    assert same(a.student, b.student) and torch.equal(before, torch.get_rng_state()), "and leave the global stream where it was"
    assert not same(a.student, first_model("ecapa", "student", 1, scale="smoke").student)


# ---- one step

def test_gradients_reach_the_student_and_never_the_teacher(data):
    model = fresh().train()
    forward_loss(model, replace(data, k=None), torch.arange(8), MKD, S, 1)["total"].backward()
    moved = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and p.grad.count_nonzero()}
    assert moved == {"student", "heads"}


def test_training_leaves_the_teacher(data):
    model = fresh()
    before = {n: v.clone() for n, v in model.teacher.state_dict().items()}
    fit(model, replace(data, k=None), MKD, S, 0)
    assert all(torch.equal(before[n], v) for n, v in model.teacher.state_dict().items()), "weights and BatchNorm statistics"
    assert not same(model.student, fresh().student)


def test_labels_outside_the_training_rows_are_not_read(data):
    other = {t: torch.where(torch.arange(21) == 20, torch.zeros(21, dtype=torch.long), v) for t, v in data.labels.items()}
    assert untimed(fit(fresh(), data, MKD, S, 0)) == untimed(fit(fresh(), replace(data, labels=other), MKD, S, 0))


def test_both_views_are_twice_as_many_answers(data, monkeypatch):
    seen = {}
    def spy(out, y, *rest):
        seen[view] = (len(out.x.pooled), [v.tolist() for v in y.values()])
        return terms(out, y, *rest)
    terms = training.terms
    monkeypatch.setattr(training, "terms", spy)
    for view in ("normal", "mixup", "both"): forward_loss(fresh(), data, torch.arange(4), MKD, replace(S, student_view=view), 1)
    assert [seen[v][0] for v in seen] == [4, 4, 8] and seen["both"][1] == [v + v for v in seen["normal"][1]]


def test_mixup_with_lambda_one_is_no_mixup(data):
    a, b = (forward_loss(fresh(), data, torch.arange(8), MKD, s, 1)["total"] for s in (replace(S, mixup=MixupSettings(lam=1.)), replace(S, student_view="normal")))
    assert torch.equal(a, b) and not torch.equal(a, forward_loss(fresh(), data, torch.arange(8), MKD, S, 1)["total"])


def test_clip(data, monkeypatch):
    "Every step's gradient has a norm of `clip` at most when Adam gets it; a huge clip changes nothing"
    norms = []
    step = torch.optim.Adam.step
    def spy(self, *args, **kwargs):
        norms.append(torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"] if p.grad is not None]).norm().item())
        return step(self, *args, **kwargs)
    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    fit(fresh(), data, MKD, replace(S, epochs=1, clip=1e9), 0)
    free, norms[:] = list(norms), []
    fit(fresh(), data, MKD, replace(S, epochs=1, clip=.1), 0)
    assert free[0] > .2 and len(free) == len(norms) == 3 and max(norms) <= .1 * (1 + 1e-4) and norms[0] == pytest.approx(.1, rel=1e-3)


# ---- stopping and going on

class Killed(Exception): pass


@pytest.mark.parametrize("at,left", [((1, 1), 5), ((2, 1), 2)])
def test_resumed_equals_undisturbed(data, tmp_path, at, left):
    whole, cut, again, steps = fresh(), fresh(), fresh(), []
    curves = fit(whole, data, MKD, S, 0)
    def kill(epoch, step, *_):
        if (epoch, step) == (at[0], at[1] + 1): raise Killed  # raised before that step is saved
    with pytest.raises(Killed): fit(cut, data, MKD, S, 0, tmp_path / "c.pt", key="k", save_every=0., progress=kill)
    torch.manual_seed(123)  # where the global stream stands must not matter
    got = fit(again, data, MKD, S, 0, tmp_path / "c.pt", key="k", progress=lambda *a: steps.append(a))
    assert same(whole, again) and untimed(got) == untimed(curves) and len(steps) == left


def test_a_finished_run_is_not_trained_further(data, tmp_path):
    model = fresh()
    curves, steps = fit(model, data, MKD, S, 0, tmp_path / "c.pt"), []
    other = fresh()
    assert fit(other, data, MKD, S, 0, tmp_path / "c.pt", progress=lambda *a: steps.append(a)) == curves and steps == [] and same(model, other)


def test_another_runs_checkpoint_is_refused(data, tmp_path):
    fit(fresh(), data, MKD, replace(S, epochs=1), 0, tmp_path / "c.pt", key="one")
    with pytest.raises(ValueError, match="configuration changed"): fit(fresh(), data, MKD, S, 0, tmp_path / "c.pt", key="two")


def test_a_loss_that_is_no_number_stops(data):
    broken = Features(data.features.values.clone().index_fill_(0, torch.tensor([5]), float("nan")), data.features.starts, data.features.n_frames)
    with pytest.raises(FloatingPointError, match="epoch 1"): fit(fresh(teacher=False), Data(broken, data.labels, data.rows), Objective(), replace(S, epochs=1), 0)


# ---- BatchNorm statistics

def test_reestimated_statistics_by_hand(data):
    "The first BatchNorm ends with the mean and the (unbiased) variance of what comes in, averaged over batches; training rows only"
    model = fresh()
    fit(model, data, MKD, S, 0)
    block, norm = next((m, c) for m in model.student.modules() for c in m.children() if isinstance(c, nn.BatchNorm1d))
    seen = []
    hook = norm.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach()))
    weights = {n: p.clone() for n, p in model.named_parameters()}
    reestimate(model, data, batch=8)
    hook.remove()
    assert len(seen) == 3 and sum(len(v) for v in seen) == 20
    flat = [v.transpose(0, 1).flatten(1).double() for v in seen]
    mean, var = torch.stack([v.mean(1) for v in flat]).mean(0), torch.stack([v.var(1, unbiased=True) for v in flat]).mean(0)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(weights[n], p) for n, p in model.named_parameters()) and not model.training
    assert all(m.momentum == .1 for m in model.modules() if isinstance(m, nn.BatchNorm1d)), "momentum as it was"


def test_reestimating_twice_is_reestimating_once(data):
    model = fresh()
    fit(model, data, MKD, replace(S, epochs=1), 0)
    once = {n: b.clone() for n, b in reestimate(model, data).named_buffers()}
    assert all(torch.equal(once[n], b) for n, b in reestimate(model, data).named_buffers())


def test_encode_all_keeps_rows_and_mode(data):
    net = encoder("ecapa", "teacher", scale_name="smoke").train()
    whole = encode_all(net, data.features, batch=1)
    assert net.training and len(whole.pooled) == 21
    with torch.no_grad(): one = net.eval()(*data.features.batch(torch.tensor([13])))
    torch.testing.assert_close(whole.embedding[13:14], one.embedding)


def test_what_moves_and_what_does_not(data):
    "Every weight of student and heads moves; the teacher keeps its weights, its statistics and its mode, and the optimiser does not know it"
    model = fresh()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    fit(model, replace(data, k=None), MKD, replace(S, epochs=1), 0)
    weights = {n for n, _ in model.named_parameters()}
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved & weights == {n for n in weights if not n.startswith("teacher.")} and not any(n.startswith("teacher.") for n in moved)
    assert not any(m.training for m in model.teacher.modules()) and all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize("objective,tasks", [(MKD, ("gender", "agesup")), (Objective(age_loss="asl", dep="corrected", dist="cos"), ("gender", "agesup", "agesub"))])
def test_the_logged_terms_add_up_to_the_logged_total(data, objective, tasks):
    "Of every step and of every epoch; 20 utterances in batches of 8 leave a smaller one, which counts for less"
    steps = []
    torch.manual_seed(9)
    model = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), tasks, encoder("ecapa", "teacher", scale_name="smoke"))
    labels = data.labels | dict(agesup=torch.tensor(PARENT)[data.labels["agesub"]])
    def note(epoch, step, of, ledger): steps.append({t: float(v.detach()) for t, v in ledger.items()})
    curve, = fit(model, replace(data, labels=labels), objective, replace(S, epochs=1), 0, progress=note)
    parts = set(curve) - {"epoch", "lr", "seconds", "total"}
    assert parts == {"gender", "agesup", "dist"} | ({"agesub", "dep"} if len(tasks) == 3 else set())
    for line in (*steps, curve): assert sum(line[t] for t in parts) == pytest.approx(line["total"], rel=1e-5)
    sizes = [len(b) for b in batches(data.features.n_frames[data.rows], S.batch, seed_at(0, 1))]
    assert sorted(sizes) == [4, 8, 8]
    for t in (*parts, "total"): assert curve[t] == pytest.approx(sum(n * s[t] for n, s in zip(sizes, steps)) / 20, rel=1e-5)


# ---- the loop itself, on a model that can be followed by hand

@dataclass(frozen=True)
class Halves:
    "A schedule by hand: the rate halves wherever the loss did not fall"
    epochs: int = 3; lr: float = .1; clip: float | None = None

    def rate(self, epoch, losses): return self.lr * .5 ** sum(b >= a for a, b in pairwise(losses))


class Weight(nn.Module):
    "One weight w, and a BatchNorm that counts its batches"
    def __init__(self, w=0.):
        super().__init__()
        self.w, self.norm = nn.Parameter(torch.tensor(w)), nn.BatchNorm1d(1)


def descend(s, loss=lambda model, b: (model.w - 1).square(), order=lambda epoch: [torch.tensor([0])], **more):
    model = Weight()
    return train(model, torch.optim.SGD([model.w], lr=9.), s, 0, order, lambda b, at: dict(total=loss(model, b)), **more), model


def test_a_step_by_hand():
    "The gradient of (w - 1)² is 2 (w - 1): at 0.1 a fifth of the gap goes, whatever rate the optimiser was made with"
    curves, model = descend(Halves())
    assert [c["total"] for c in curves] == pytest.approx([1., .64, .4096]) and model.w.item() == pytest.approx(1 - .8**3)


def test_the_schedule_is_given_the_losses_so_far():
    "A loss that stays at 1 halves the rate after the second epoch, and again after the third"
    curves, _ = descend(Halves(epochs=4), loss=lambda model, b: 0 * model.w + 1)
    assert [c["lr"] for c in curves] == [.1, .1, .05, .025]


@pytest.mark.parametrize("clip,step", [(None, 2.), (5., 2.), (.5, .5)])
def test_the_clip_of_a_step(clip, step):
    "The first gradient is -2: no clip and a wide one leave it, a narrow one is its length"
    assert descend(Halves(epochs=1, clip=clip))[1].w.item() == pytest.approx(.1 * step, rel=1e-5)


def test_what_stays_still():
    "A module that is named keeps its statistics; without its name it drifts; what is measured after an epoch is logged"
    def loss(model, b): return model.norm(torch.tensor([[1.], [3.]])).sum() + (model.w - 1).square()
    drifted = descend(Halves(epochs=2), loss)[1]
    assert drifted.norm.num_batches_tracked == 2
    model = Weight()
    curves = train(model, torch.optim.SGD([model.w], lr=.1), Halves(epochs=2), 0, lambda epoch: [torch.tensor([0])], lambda b, at: dict(total=loss(model, b)),
                   each_epoch=lambda: dict(w=model.w.item()), still=(model.norm,))
    assert model.norm.num_batches_tracked == 0 and [c["w"] for c in curves] == pytest.approx([.2, .36])


def test_every_step_has_its_seed_and_its_batch():
    "In the order asked for; the order of an epoch is asked for once, and once before that for the number of its steps"
    seen, orders = [], []
    model = Weight()
    def order(epoch): orders.append(epoch); return [torch.tensor([epoch, 0]), torch.tensor([epoch])]
    def loss(b, at): seen.append((b.tolist(), at)); return dict(total=model.w.square())
    train(model, torch.optim.SGD([model.w], lr=.1), Halves(epochs=2), 3, order, loss)
    assert seen == [([1, 0], seed_at(3, 1, 0)), ([1], seed_at(3, 1, 1)), ([2, 0], seed_at(3, 2, 0)), ([2], seed_at(3, 2, 1))] and orders == [1, 1, 2]


@pytest.mark.parametrize("at", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("every", [0., 1e9])
def test_interrupted_anywhere_is_the_same_run(tmp_path, at, every):
    "Between checkpoints, at an epoch's end, in its midst; momentum, sums and the losses that the schedule looks at all come back"
    order = lambda epoch: [torch.tensor([epoch + i]) for i in range(3)]
    def run(progress=lambda *a: None, **more):
        model = Weight()
        def loss(b, at): return dict(total=(model.w - (at % 7) / 7 - b[0]).square(), where=(0 * model.w + at % 5))
        curves = train(model, torch.optim.SGD([model.w], lr=.1, momentum=.9), Halves(), 0, order, loss, progress=progress, **more)
        return untimed(curves), model.w.item()
    def kill(epoch, step, *_):
        if (epoch, step) == at: raise KeyboardInterrupt
    keep = dict(checkpoint=tmp_path / "c.pt", key="k", save_every=every)
    with pytest.raises(KeyboardInterrupt): run(kill, **keep)
    assert run(**keep) == run() and len(run()[0]) == 3


def test_what_a_checkpoint_holds(tmp_path):
    "These fields and no others: a run that was begun by older code goes on, as long as they stay"
    descend(Halves(epochs=1), checkpoint=tmp_path / "c.pt", key="k")
    state = load_checkpoint(tmp_path / "c.pt", "k")
    assert set(state) == {"key", "model", "optimiser", "curves", "at", "sums", "seconds"} and state["at"] == (2, 0) and state["sums"] == {}
