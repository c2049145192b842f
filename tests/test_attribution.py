"Attribution: exact cases, properties on both encoders, and the sheet's arithmetic"
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mkdcls import attribution as att
from mkdcls.attribution import METHODS, Answer, answered, attribute, completeness, infidelity, permuted, rank_correlation, sensitivity, truth_share
from mkdcls.encoders import encoder
from mkdcls.results import attribution_sheet as sheet
from mkdcls.intervention import BackDoor
from mkdcls.model import MultiTaskModel
from mkdcls.runs import preset_of
from mkdcls.scm import latents
from mkdcls.standin import draw_manifest, render

N = torch.tensor([60, 48, 60, 37])
FAST = {"integrated_gradients": dict(steps=4), "conductance": dict(steps=3)}


def model_of(family, teacher=False, z="embedding", tasks=("gender", "agesup")):
    torch.manual_seed(3)
    e = encoder(family, "student", scale_name="smoke", **(dict(masked=True) if family == "resnet" else {}))
    t = encoder(family, "teacher", scale_name="smoke") if teacher else None
    return MultiTaskModel(e, tasks, t, z=z).eval()


@pytest.fixture(scope="module")
def x():
    out = 8 * torch.randn(4, 60, 80, generator=torch.Generator().manual_seed(0))
    return out * (torch.arange(60) < N[:, None])[..., None]


@pytest.fixture(scope="module", params=[("ecapa", False), ("resnet", False), ("ecapa", True), ("resnet", True)], ids=lambda p: p[0] + "+K" * p[1])
def model(request): return model_of(*request.param)


class Linear(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = w

    def forward(self, x, n_frames=None, k=None): return torch.einsum("btf,ctf->bc", x, self.w[:, :x.shape[1]])


@pytest.fixture(scope="module")
def line(): return Linear(torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)))


# ---- the function

@pytest.mark.parametrize("z", ["embedding", "pooled", "student"])
@pytest.mark.parametrize("family", ["ecapa", "resnet"])
def test_answer_is_the_models_own(family, z, x):
    m = model_of(family, True, z)
    f, held = Answer(m, "agesup"), Answer(m, "agesup", k="fixed")
    alone = torch.cat([m(x[i:i + 1, :k], N[i:i + 1]).logits["agesup"] for i, k in enumerate(N.tolist())])
    assert_close(f(x, N), alone.detach(), rtol=1e-4, atol=1e-5)
    k = held.knowledge(x, N)
    assert (k is None) == (z == "student")
    assert_close(held(x, N, k), f(x, N), rtol=1e-4, atol=1e-5)


def test_the_model_is_left_alone(x):
    m = model_of("ecapa", True).train()
    before = deepcopy(m.state_dict())
    attribute(Answer(m, "gender"), x, N, steps=2)
    assert m.training and all(p.requires_grad for p in m.student.parameters())
    assert all(torch.equal(v, m.state_dict()[n]) for n, v in before.items())


def test_gradient_reaches_the_picture_through_k_only_when_it_moves(x):
    m = model_of("ecapa", True)
    with torch.no_grad():
        for p in m.student.parameters(): p.zero_()  # what is left is the teacher's path
    for path, moves in (("moves", True), ("fixed", False)):
        a = attribute(Answer(m, "gender", k=path), x, N, steps=3)
        assert bool(a.abs().sum() > 0) == moves


def test_refusals(x):
    m = model_of("ecapa")
    for match, call in (("it has \\('gender', 'agesup'\\)", lambda: Answer(m, "agesub")), ("choose one of", lambda: Answer(m, "gender", output="odds")),
                        ("choose one of", lambda: attribute(Answer(m, "gender"), x, N, "saliency")), ("these encoders need", lambda: Answer(m, "gender")(x[:, :2])),
                        ("utterance 3 of the batch has 3 frames", lambda: attribute(Answer(m, "gender"), x, torch.tensor([60, 48, 60, 3]))),
                        ("no layer 'student.nothing'", lambda: attribute(Answer(m, "gender"), x, N, "gradcam", layer="student.nothing")),
                        ("no layer 'teacher.encoder.mfa'", lambda: att.layer_of(Answer(model_of("ecapa", True), "gender", k="fixed"), "teacher.encoder.mfa")),
                        ("forward pass of its own", lambda: Answer(BackDoor(encoder("ecapa", "student", scale_name="smoke"), ("gender",),
                                                                            encoder("ecapa", "teacher", scale_name="smoke")), "gender"))):
        with pytest.raises(ValueError, match=match): call()


# ---- every method

@pytest.mark.parametrize("method", METHODS)
def test_padding_is_zero_and_batches_do_not_matter(model, method, x):
    f = Answer(model, "gender", k="fixed")
    whole = attribute(f, x, N, method, **FAST.get(method, {}))
    noisy = x + 50 * (torch.arange(60) >= N[:, None])[..., None]  # what lies in the padding is not even looked at
    assert torch.equal(attribute(f, noisy, N, method, **FAST.get(method, {})), whole)
    for i, n in enumerate(N.tolist()):
        assert (whole[i, n:] == 0).all() and whole[i, :n].isfinite().all() and whole[i, :n].abs().sum() > 0
        one = attribute(f, x[i:i + 1, :n], N[i:i + 1], method, **FAST.get(method, {}))
        assert (whole[i, :n] - one[0]).norm() < .01 * one.norm()


def test_completeness(model, x):
    f = Answer(model, "gender")
    target = answered(f, x, N)
    gaps = []
    for steps in (4, 64):
        total, gained = completeness(f, x, N, attribute(f, x, N, target=target, steps=steps), target).unbind(1)
        gaps.append(float((total - gained).abs().max()))
    assert gaps[1] < gaps[0] and gaps[1] < .15


def test_completeness_of_a_linear_model_is_exact(line, x):
    one = torch.ones(4, dtype=torch.long)
    for steps in (1, 5):
        a = attribute(line, x, N, target=one, steps=steps)
        assert_close(a, line.w[1] * x, rtol=1e-4, atol=1e-4)
        total, gained = completeness(line, x, N, a, one).unbind(1)
        assert_close(total, gained, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("method,settings", [("occlusion", dict(frames=7, bands=9)), ("occlusion_band", dict(bands=11)), ("occlusion_time", dict(frames=13))])
def test_occlusion_is_additive_on_a_linear_model(line, x, method, settings):
    one = torch.ones(4, dtype=torch.long)
    a = attribute(line, x, N, method, one, **settings)
    assert_close(a.sum((1, 2)), (line.w[1] * x).sum((1, 2)), rtol=1e-3, atol=1e-1)
    deaf = Linear(line.w.mul(8).round() * (torch.arange(80) < 33))  # whole numbers: sums are exact in any order
    a = attribute(deaf, x.round(), N, "occlusion_band", one, bands=11)
    assert (a[..., 33:] == 0).all() and (a[0, :60, :33] != 0).all()


def test_kernel_shap_equals_shapley_by_all_orders(x):
    "A game with interactions, six players, against the definition"
    from itertools import permutations
    half = x[:1]
    masks = [(att.group_mask(half) == g) for g in range(6)]

    class Game(nn.Module):
        def value(self, s): return s[0] + 2 * s[1] * s[2] - s[3] * s[4] * s[5] + s[5] * (1 - s[0])
        def forward(self, v, n_frames=None, k=None):
            there = [(((v == half) | ~mk).flatten(1).all(1)).float() for mk in masks]
            return self.value(there)[:, None]

    game, shares = Game(), torch.zeros(6)
    orders = list(permutations(range(6)))
    for order in orders:
        s, before = [0.] * 6, game.value([0.] * 6)
        for p in order:
            s[p] = 1.
            shares[p] += game.value(s) - before
            before = game.value(s)
    got = att.group_sums(attribute(game, half, N[:1], "kernel_shap", torch.zeros(1, dtype=torch.long)), half)[0]
    assert_close(got, shares / len(orders), rtol=0, atol=2e-3)


def test_attention_sums_to_one_and_ignores_the_task(model, x):
    a, b = (attribute(Answer(model, t), x, N, "attention") for t in ("gender", "agesup"))
    assert torch.equal(a, b)
    assert_close(a.sum((1, 2)), torch.ones(4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("small,large", [((3, 5), (41, 80)), ((7, 1), (50, 80)), ((60, 80), (60, 80))])
def test_spread_keeps_sums(small, large):
    a = torch.randn(2, *small, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    out = att.spread(a, *large)
    assert out.shape == (2, *large)
    assert_close(out.sum((1, 2)), a.sum((1, 2)))
    if small == large: assert_close(out, a)


# ---- judgements

def test_infidelity(line, x):
    one = torch.ones(4, dtype=torch.long)
    right = line.w[1] * x
    assert infidelity(line, x, N, right, one).max() < 1e-4
    assert_close(infidelity(line, x, N, -3 * right, one), infidelity(line, x, N, right, one), rtol=0, atol=1e-4)
    assert_close(infidelity(line, x, N, 0 * right, one), torch.ones(4))
    lost = att.removal_changes(line, x, N, one)
    assert_close(infidelity(line, x, N, permuted(right, N), one, changes=lost), infidelity(line, x, N, permuted(right, N), one))


def test_sensitivity(line, x):
    one = torch.ones(4, dtype=torch.long)
    small, large = (sensitivity(line, x, N, "integrated_gradients", one, radius=r, steps=1) for r in (.1, 1.))
    assert_close(large, 10 * small, rtol=1e-2, atol=0)
    expected = (1 / 3**.5) / 8  # a uniform move of ±1 dB against cells of 8 dB
    assert ((large > .95 * expected) & (large < 1.15 * expected)).all()


def test_random_weights_are_told_apart(line, x):
    one, other = torch.ones(4, dtype=torch.long), Linear(line.w[:, torch.randperm(60, generator=torch.Generator().manual_seed(5))])
    deaf = Linear(line.w * (torch.arange(80) < 40))
    a, b = (attribute(m, x, N, target=one, steps=1) for m in (deaf, other))
    assert (rank_correlation(a, b, N) < .6).all() and (rank_correlation(a, 2 * a, N) > .999).all()
    assert_close(rank_correlation(a, torch.ones_like(a), N), torch.zeros(4))


@pytest.mark.parametrize("upto", att.PARTS)
def test_randomised_cascades(upto, x):
    m = model_of("ecapa", True)
    r = att.randomised(m, x, N, upto)
    for name, part in (("heads", "heads"), ("embedding", "student.fc"), ("pooling", "student.pool"), ("all", "student.stem"), ("all", "teacher.encoder.stem")):
        same = all(torch.equal(v, r.state_dict()[n]) for n, v in m.state_dict().items() if n.startswith(part) and n.endswith("weight"))
        assert same == (att.PARTS.index(name) > att.PARTS.index(upto)), (name, upto)
    again = att.randomised(m, x, N, upto)
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in r.state_dict().items()) and not r.training


def test_truth_share():
    change = torch.arange(1., 101.).reshape(1, 4, 25)
    n = torch.tensor([4])
    assert_close(truth_share(change, change, n), change.flatten()[80:].sum()[None] / 5050)
    assert_close(truth_share(torch.ones_like(change), change, n), torch.tensor([.2]))
    assert_close(truth_share(-change, -change, n, area=.5), change.flatten()[50:].sum()[None] / 5050)
    assert truth_share(0 * change, change, n).isnan().all()
    padded = torch.cat([change, torch.full((1, 3, 25), 1e6)], 1)
    assert_close(truth_share(padded, padded, n), truth_share(change, change, n))
    with pytest.raises(ValueError, match="between 0 and 1"): truth_share(change, change, n, area=1.)


# ---- the truth

@pytest.fixture(scope="module")
def people(): return draw_manifest("LTV", 6, seed=2).assign(duration=1.)


def test_do_gender_keeps_the_timing_and_age_is_held(people):
    for age in (25., 75., people["age"].to_numpy()):
        held, plain = latents(att.hold_timing(people, age).assign(age=age)), latents(people)
        for z in ("rate_syl_s", "pause_share"): np.testing.assert_allclose(held[z], plain[z], rtol=1e-9)
    flipped = latents(people.assign(female=1 - people["female"]))
    for z in ("rate_syl_s", "pause_share"): np.testing.assert_array_equal(flipped[z], latents(people)[z])


def test_counterfactual(people):
    same = att.counterfactual(people, age=people["age"].to_numpy())
    assert_close(same.changed, same.x, rtol=0, atol=.15)  # an intervention that sets what is there changes nothing
    aged = att.counterfactual(people, age=np.where(people["age"] < 45, 70., 25.))
    assert (aged.changed - aged.x).abs().mean() > 1
    for kw, match in ((dict(), "one of them"), (dict(age=30, female=1), "one of them"), (dict(age=80), "20 to 79"), (dict(age=19), "20 to 79")):
        with pytest.raises(ValueError, match=match): att.counterfactual(people, **kw)


def test_resynthesis(people):
    waves, n = render(people.iloc[:1])
    wave = waves[0, :int(n[0])]
    T = 1 + len(wave) // 80
    assert_close(att.resynthesise(wave, torch.rand(T, 80), 1.), wave[:(T - 1) * 80 + 40], rtol=0, atol=1e-5)
    assert_close(att.to_bins(torch.ones(3, 80)), torch.ones(257, 3))
    some = torch.zeros(T, 80)
    some[: T // 2] = 1
    kept = att.resynthesise(wave, some, .5, smooth=1)
    assert kept[: 80 * (T // 2 - 3)].std() > 0 and kept[80 * (T // 2 + 3):].abs().max() < 1e-6
    assert len(att.wav_bytes(torch.zeros(80_000))) < 60_000


# ---- the sheet

def test_interval_is_the_mean_with_speakers_resampled():
    rng = np.random.default_rng(0)
    v = rng.normal(1, .5, 200)
    part = pd.DataFrame(dict(seed=0, speaker=[f"s{i}" for i in range(200)], value=v))
    mean, low, high = sheet.interval(part)
    assert_close(mean, float(v.mean()))
    assert_close((high - low) / 2, 1.96 * v.std() / 200**.5, rtol=.1, atol=0)
    twice = pd.concat([part] * 4).assign(speaker=lambda t: t["speaker"])
    assert_close(sheet.interval(twice)[2] - sheet.interval(twice)[1], high - low, rtol=.1, atol=0)  # four times the lines, not four times the facts


class Stub:
    "A runner with untrained models: what the sheet needs of one"
    corpus, real, name = "standin", "", "standin-smoke"
    def __init__(self):
        self.preset = preset_of("smoke")
        self.rows = self.preset.rows("standin")

    def trained(self, row, seed): return model_of(self.rows[row].family, self.rows[row].teacher is not None, tasks=self.rows[row].tasks)


def test_measure_and_summary(people, x):
    size = sheet.Size(4, 2, 1, steps=2, rectangles=2, max_frames=60)
    what = sheet.Heard(people.iloc[:4], x, N, {"age": x.flip(2), "gender": x})
    runner, parts = Stub(), []
    for row, task in (("3", "gender"), ("6", "agesub")):
        lines = sheet.measure(runner.trained(row, 0), task, what, size, 0)
        parts.append(lines.assign(row=row, seed=0, task=task, speaker=lambda t: what.manifest["speaker"].to_numpy()[t["utterance"]]))
    table = sheet.summarise_measures(pd.concat(parts), runner)
    assert list(table.columns) == sheet.COLUMNS and set(sheet.MEASURES) <= set(table["measure"])
    chance = table[(table["measure"] == "chance") & (table["attribution"] == "integrated_gradients")]
    assert ((chance["value"] - .2).abs() < .03).all()
    assert (table["attribution"] == sheet.HELD).any() and not ((table["row"] == "3") & (table["attribution"] == sheet.HELD)).any()
    groups = table[table["measure"].str.startswith("group: ") & (table["attribution"] == "kernel_shap")]
    assert_close(groups.groupby("row")["value"].sum().to_numpy(), np.ones(2), rtol=0, atol=1e-3)


def test_without_truth_there_is_no_truth_share(people, x):
    size = sheet.Size(4, 2, 1, steps=2, rectangles=2, max_frames=60)
    lines = sheet.measure(model_of("ecapa"), "gender", sheet.Heard(people.iloc[:4], x, N, {}), size, 0)
    assert not lines["measure"].str.contains("share_|chance").any() and (lines["measure"] == "infidelity").any()
    runner = Stub()
    runner.corpus = "real"
    assert sheet.sounds(runner) == {}


def test_what_is_learnt_is_trained_minus_untrained_on_the_same_utterances():
    rng, lines = np.random.default_rng(0), []
    for i in range(40):
        other = rng.random()  # untrained shares vary far more than what training adds
        for name, v in (("truth_share_age", other + .05 + .01 * rng.standard_normal()), ("untrained_share_age", other)):
            lines.append(dict(row="3", seed=0, task="agesup", attribution="occlusion", utterance=i, speaker=f"s{i // 2}", measure=name, value=v))
    more = sheet.learnt(pd.DataFrame(lines))
    assert len(more) == 1 and more["low"][0] < .05 < more["high"][0] and more["high"][0] - more["low"][0] < .02, "paired: the spread of the pictures is gone"
    said = sheet.say_learnt(more)
    assert "More than untrained, with the whole interval: occlusion, agesup +0.05" in said and "Less: none" in said
    without = pd.DataFrame(lines).query("measure == 'truth_share_age'")
    assert sheet.learnt(without).empty and "not known" in sheet.say_learnt(sheet.learnt(without))


def test_largest_groups_with_all_that_reach_into_its_interval():
    line = lambda row, group, v, half: dict(row=row, task="agesup", attribution="kernel_shap", group=group, value=v, low=v - half, high=v + half)
    groups = pd.DataFrame([line("10", "F0 region", .3, .02), line("10", "F1 region", .2, .02), line("3", "F0 region", .3, .1), line("3", "pauses", .25, .01)])
    first, second = sheet.largest(groups).splitlines()
    assert first == "- row 3, agesup: F0 region 0.30 [0.20, 0.40]; pauses 0.25 [0.24, 0.26]" and second == "- row 10, agesup: F0 region 0.30 [0.28, 0.32]"
