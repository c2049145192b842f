"Remedies: each by hand or against what it must reduce to; what they miss is said before anything runs; one real command"
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mkdcls import remedies as rem
from mkdcls.encoders import encoder
from mkdcls.engine.features import Features
from mkdcls.engine.store import digest
from mkdcls.model import MultiTaskModel
from mkdcls.objective import Objective
from mkdcls.results import disturbed as dis
from mkdcls.results import remedies_dial as by_hand
from mkdcls.results import remedies_sheet as sheet
from mkdcls.results.runner import Runner
from mkdcls.runs import PRESETS, Knobs, identity, like, role_manifest
from mkdcls.standin import STANDINS, apply_codec, draw_manifest, render
from mkdcls.training import Data, Settings, encode_all, fit

ROOT = Path(__file__).resolve().parents[1]
ROWS = PRESETS["smoke"].rows()
QUICK = Settings(epochs=1, batch=8, lr=3e-3, drops=())


def row(name, strength=.5, of="3"): return like(ROWS[of], "x", remedy=((name, strength),))
def meant(name): return 1. if rem.REMEDIES[name].unit == "no meaning" else .5


def speech(n=24, seed=0, same=False):
    g = torch.Generator().manual_seed(seed)
    t = torch.randint(60, 90, (n,), generator=g)
    values = torch.randn(int(t.sum()), 80, generator=g)
    twin = values if same else values + torch.linspace(-1, 1, 80)
    labels = dict(gender=torch.arange(n) % 2, agesup=torch.arange(n) % 3, agesub=torch.tensor([0, 2, 4])[torch.arange(n) % 3])
    own, other = (Features(v.half(), t.cumsum(0) - t, t) for v in (values, twin))
    return Data(own, labels, torch.arange(n)), other


def fresh(tasks=("gender", "agesup"), teacher=False):
    torch.manual_seed(0)
    student, t = encoder("ecapa", "student", scale_name="smoke"), encoder("ecapa", "teacher", scale_name="smoke") if teacher else None
    return MultiTaskModel(student, tasks, t)


def equal(p, q): return all(torch.equal(a, b) for a, b in zip(p.state_dict().values(), q.state_dict().values(), strict=True))


def known(n=24, lines=2):
    line, age = torch.arange(n) // 3 % lines, torch.arange(n) % 3
    return rem.Known(line, age * lines + line, age, lines)


# ---- by hand

def test_weights_untie_any_table():
    g = torch.Generator().manual_seed(0)
    age, line = (torch.randint(k, (500,), generator=g) for k in (5, 3))
    w = rem.balance_weights(age, line)
    joint = torch.zeros(5, 3, dtype=torch.float64).index_put((age, line), w, accumulate=True) / 500
    assert_close(joint, joint.sum(1, keepdim=True) * joint.sum(0)), assert_close(joint.sum(1), age.bincount().double() / 500)
    assert (rem.balance_weights(age, line, 0.) == 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_everybody_is_drawn_as_often_as_the_weight_says(seed):
    w = torch.rand(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    w = w * 200 / w.sum()
    times = rem.resample(w, seed).bincount(minlength=200)
    assert times.sum() == 200 and ((times - w).abs() < 1 + 1e-9).all() and torch.equal(rem.resample(w, seed), rem.resample(w, seed))
    assert torch.equal(rem.resample(torch.ones(7), seed), torch.arange(7))
    mean = torch.stack([rem.resample(w, s).bincount(minlength=200) for s in range(400)]).double().mean(0)
    assert (mean - w).abs().max() < .12


def test_standardised_equals_a_table_by_hand():
    p = pd.DataFrame([(y, l, v) for y, l, v in itertools.product((0, 1), repeat=3)], columns=["y", "line", "v"])
    p["p"] = [.5 * (.9 if y == l else .1) * (.6 if y == v else .4) for y, l, v in p.to_numpy()]
    got = rem.standardised(p, ["v"])
    by_hand = .5 * (.54 / (.54 + .04)) + .5 * (.06 / (.06 + .36))  # over line 1, over line 0
    assert got[1] == pytest.approx(by_hand) and got[0] == pytest.approx(1 - by_hand)
    with pytest.raises(ValueError, match="v = 1 was never heard over line 1"):
        rem.standardised(p.assign(p=p.p.where((p.line != 1) | (p.v != 1), 0.)), ["v"])


def test_heads_that_are_told_the_line_average_over_it():
    heads = rem.LineHeads(4, ("gender", "agesup"), 3, hidden=8).eval()
    heads.share.copy_(torch.tensor([.2, .3, .5]))
    z, given = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    over = lambda line: super(rem.LineHeads, heads).forward(torch.cat([z, nn.functional.one_hot(line, 3)], 1))[1]["agesup"].softmax(-1)
    want = sum(p * over(torch.full((6,), l)) for l, p in enumerate((.2, .3, .5)))
    assert_close(heads(z)[1]["agesup"].exp(), want)
    heads.train()
    [m.eval() for m in heads.modules() if m is not heads]
    heads.told = given
    assert_close(heads(z)[1]["agesup"].softmax(-1), over(given))
    heads.told = given[:3]
    assert_close(heads(z)[1]["agesup"], heads(z)[1]["agesup"]), "two views of three utterances"


def test_reversed_gradient_by_finite_difference():
    net = rem.Adversary(3, 2, .7, seed=1)
    z, line, w = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 0, 1, 1]), torch.rand(5).double()
    net.double()
    net(z, line, w).backward()
    for i, j in ((0, 0), (3, 2)):
        step = torch.zeros_like(z)
        step[i, j] = 1e-5
        slope = (net(z.detach() + step, line, w) - net(z.detach() - step, line, w)) / 2e-5
        assert_close(z.grad[i, j], -.7 * slope.detach(), rtol=1e-4, atol=1e-8)
    before = net(z.detach(), line, w)
    before.backward()
    with torch.no_grad():
        for p in net.parameters(): p -= .05 * p.grad / 2  # both backward passes have added up
    assert net(z.detach(), line, w) < before, "the adversary itself goes downhill"


def test_group_dro():
    risk = torch.tensor([.2, 1., .6])
    assert torch.equal(rem.GroupDro(1, .3)(risk, torch.zeros(3, dtype=torch.long)), risk.mean())
    dro = rem.GroupDro(3, .5)
    loss = dro(risk, torch.tensor([0, 2, 0]))
    a, b = np.exp(.5 * .4), np.exp(.5 * 1.)
    assert_close(dro.q, torch.tensor([a, 1., b]).float() / float(a + 1 + b)), assert_close(loss, torch.tensor((a * .4 + b) / (a + b)).float())
    for _ in range(200): dro(risk, torch.tensor([0, 2, 0]))
    assert dro.q[2] > .99 and dro(risk, torch.tensor([0, 2, 0])) > .98, "in the end the worst group alone"


def test_irm_is_the_squared_slope():
    logits, y, g = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    at = lambda w: nn.functional.cross_entropy(w * logits, y, reduction="none")
    slopes = [(at(1 + 1e-5)[g == k].mean() - at(1 - 1e-5)[g == k].mean()) / 2e-5 for k in (0, 1)]
    assert_close(rem.irm(at, g).double(), (slopes[0]**2 + slopes[1]**2) / 2, rtol=1e-4, atol=1e-9)


def test_hsic_sees_what_the_line_does_within_ages_only():
    g = torch.Generator().manual_seed(0)
    age, line = torch.arange(80) % 2, torch.arange(80) // 2 % 2
    noise = torch.randn(80, 1, generator=g)
    assert rem.hsic(noise + 4. * line[:, None], line, age) > .5 > .1 > rem.hsic(noise + 4. * age[:, None], line, age)
    tied = torch.where(torch.rand(80, generator=g) < .9, age, 1 - age)
    follows_age = noise * .3 + 4. * age[:, None]
    assert rem.hsic(follows_age, tied, torch.zeros_like(age)) > .4 > .2 > rem.hsic(follows_age, tied, age), "Z ⟂ line | age, not Z ⟂ line"


def test_moved():
    z = torch.randn(7, 3, dtype=torch.float64)
    apart = torch.stack([(z[i] - z[j]).square().sum() for i in range(7) for j in range(7) if i != j]).mean()
    assert_close(rem.moved(z, z + torch.tensor([2., 0., 0.])), 4 / apart)


def test_refit_stands_where_the_gradient_is_zero():
    h, y, layer = torch.randn(40, 3), torch.randint(3, (40,)), nn.Linear(3, 3)
    rem.refit(h, y, layer, l2=.05)
    loss = nn.functional.cross_entropy(layer(h), y) + .025 * layer.weight.square().sum()
    grads = torch.autograd.grad(loss, (layer.weight, layer.bias))
    assert max(float(v.abs().max()) for v in grads) < 1e-4


# ---- in training

def test_no_remedy_is_no_remedy():
    data, twin = speech()
    plain, empty, even, silent, one = (fresh() for _ in range(5))
    curves = fit(plain, data, Objective(), QUICK, 0)
    again = rem.fit_remedied(empty, data, Objective(), QUICK, 0, {})
    rem.fit_remedied(even, data, Objective(), QUICK, 0, {"balance": 1.}, known())
    rem.fit_remedied(silent, rem.with_twins(data, twin), Objective(), QUICK, 0, {"replay": 0.})
    rem.fit_remedied(one, data, Objective(), QUICK, 0, {"dro": .1}, rem.Known(*[torch.zeros(24, dtype=torch.long)] * 3, 1))
    assert equal(plain, empty) and equal(plain, even) and equal(plain, silent) and equal(plain, one)
    assert {k: v for k, v in curves[0].items() if k != "seconds"} == {k: v for k, v in again[0].items() if k != "seconds"}


@pytest.mark.parametrize("name", ["replay", "match"])
def test_a_twin_that_sounds_the_same_moves_nothing(name):
    "Both versions are cut at the same frame"
    data, twin = speech(same=True)
    a, b = fresh(), fresh()
    both = rem.with_twins(data, twin)
    cut = replace(QUICK, max_frames=50)
    curves = rem.fit_remedied(a, both, Objective(), cut, 0, {name: 1.})
    if name == "replay": fit(b, data, Objective(), cut, 0); assert equal(a, b)  # noqa: E702
    else: assert curves[0]["match"] < 1e-6


def test_replay_brings_the_teacher_along():
    data, twin = speech()
    model = fresh(teacher=True)
    k, k_twin = (encode_all(model.teacher.encoder, f) for f in (data.features, twin))
    both = rem.with_twins(replace(data, k=k), twin, k_twin)
    assert torch.equal(both.k.embedding[24:], k_twin.embedding) and len(both.labels["agesup"]) == 48
    with pytest.raises(ValueError, match="both or none"): rem.with_twins(data, twin, k_twin)
    assert np.isfinite(rem.fit_remedied(model, both, Objective(dist="cos"), QUICK, 0, {"match": 1.})[0]["total"])


@pytest.mark.parametrize("name", [n for n, m in rem.REMEDIES.items() if m.twin != "telephone" and n != "retrain"])
@pytest.mark.parametrize("view", ["mixup", "both"])
def test_every_remedy_trains_the_whole_method(name, view):
    data, twin = speech()
    model, r = fresh(("gender", "agesup", "agesub")), row(name, meant(name), of="5")
    model = rem.remodel(model, r)
    curves = rem.fit_remedied(model, rem.with_twins(data, twin) if rem.REMEDIES[name].twin else data, Objective(age_loss="asl", dep="corrected"),
                              replace(QUICK, student_view=view), 0, {name: meant(name)}, known() if rem.REMEDIES[name].line else None)
    assert np.isfinite(curves[0]["total"]) and "remedy" not in dict(model.named_children())
    terms = sum(v for k, v in curves[0].items() if k not in ("epoch", "lr", "seconds", "total"))
    assert curves[0]["total"] == pytest.approx(terms, rel=1e-5), "the ledger adds up"


def tied_lines(n=24):
    "Three quarters of age 0 are on line 1, and a quarter of the others"
    i, age = torch.arange(n), torch.arange(n) % 3
    line = torch.where(age == 0, i < 3*n//4, i < n//4).long()
    return rem.Known(line, age * 2 + line, age, 2)


def with_teacher(found):
    """+MKD+CH with remedies, as the runner trains it: K of the twins beside K, and for `line` in place of it; then what
    comes after training"""
    data, twin = speech()
    model, r = fresh(("gender", "agesup", "agesub"), teacher=True), like(ROWS["6"], "x", remedy=tuple(found.items()))
    assert rem.remedies_of(r) == found
    k, k_twin = (encode_all(model.teacher.encoder, f) for f in (data.features, twin))
    data, told, how = replace(data, k=k), tied_lines() if any(rem.REMEDIES[n].line for n in found) else None, rem.twin_of(r)
    model = rem.remodel(model, r)
    if how == "telephone": data = replace(data, features=twin, k=k_twin)
    both = rem.with_twins(data, twin, k_twin) if how in ("other", "codec") else data
    before = {n: v.clone() for n, v in model.state_dict().items()}
    curves = rem.fit_remedied(model, both, Objective(age_loss="asl", dep="corrected", dist="cos"), replace(QUICK, student_view="mixup"), 0, found, told)
    after = rem.finish(model, data, r, told).state_dict()
    changed = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert changed == {"student", "heads"} and np.isfinite(curves[0]["total"]) and curves[0]["dist"] > 0, "the teacher is frozen"
    terms = sum(v for n, v in curves[0].items() if n not in ("epoch", "lr", "seconds", "total"))
    assert curves[0]["total"] == pytest.approx(terms, rel=1e-5)
    return curves[0], after


@pytest.mark.parametrize("name", rem.REMEDIES)
def test_every_remedy_trains_with_a_teacher(name): with_teacher({name: meant(name)})


@pytest.mark.parametrize("found", [dict(balance=1., match=1.), dict(dro=.1, replay=.5), dict(balance=1., codec=.5)])
def test_two_remedies_train_together(found):
    "Neither drops out: a row with one of them ends elsewhere"
    ledger, together = with_teacher(found)
    assert {n for n in found if n in ("match", "dro")} <= set(ledger)
    for name, strength in found.items():
        _, alone = with_teacher({name: strength})
        assert not torch.equal(alone["heads.agesup.score.weight"], together["heads.agesup.score.weight"]), name


class Killed(Exception): pass


@pytest.mark.parametrize("name", ["dro", "reverse"])
def test_killed_and_resumed(tmp_path, name):
    "What a remedy has learnt is in the checkpoint"
    data, _ = speech()
    def kill(epoch, step, steps, ledger):
        if step == 2: raise Killed
    go = lambda model, **more: rem.fit_remedied(model, data, Objective(), QUICK, 0, {name: .5}, known(), **more)
    whole, cut, resumed = fresh(), fresh(), fresh()
    go(whole)
    with pytest.raises(Killed): go(cut, checkpoint=tmp_path / "c.pt", save_every=0, progress=kill)
    go(resumed, checkpoint=tmp_path / "c.pt")
    assert equal(whole, resumed)


def test_last_layers_alone_are_refitted():
    data, _ = speech()
    before, after = fresh(), fresh()
    rem.finish(after, data, row("retrain"), known())
    changed = [n for n, (a, b) in zip(before.state_dict(), zip(before.state_dict().values(), after.state_dict().values())) if not torch.equal(a, b)]
    assert changed == ["heads.agesup.score.weight", "heads.agesup.score.bias"]
    assert equal(rem.finish(fresh(), data, ROWS["3"], None), before)


# ---- keys

def test_keys_of_rows_without_a_remedy_know_nothing_of_it():
    plainly, on = identity(ROWS["3"], 0, "abc", {}), identity(row("replay"), 0, "abc", {})
    assert "remedy" not in plainly["recipe"] and "mkdcls.remedies" not in plainly["code"]
    assert on["recipe"]["remedy"] == [["replay", .5]] and {"mkdcls.remedies", "mkdcls.standin"} <= set(on["code"])
    assert "mkdcls.runs" not in on["code"], "a change of the rows must not renew runs with remedies"
    assert len({digest(i) for i in (plainly, on, identity(row("replay", .4), 0, "abc", {}))}) == 3


# ---- refusals, before anything runs

@pytest.fixture(scope="module")
def tied(): return role_manifest("LTV+FCVE", PRESETS["smoke"], 0, knobs=Knobs(rho=.4))[0]


def train_rows(m): return m.index[m.split == "train"]


@pytest.mark.parametrize("remedy, change, words", [
    ((("dro", .1),), lambda m: m.assign(channel="studio"), "all training utterances have one, 'studio'"),
    ((("dro", .1),), lambda m: m.drop(columns="channel"), "no column 'channel'.*take a remedy that needs no line .replay, codec, line, match"),
    ((("balance", 1.),), lambda m: m[(m.agesup != m.agesup.iloc[0]) | (m.channel == "studio")], "nobody of .* was recorded over 'telephone'"),
    ((("match", 1.),), lambda m: m.drop(columns="e_channel"), "only the stand-in knows how; recordings take codec or line"),
    ((("prayer", 1.),), lambda m: m, "no remedy 'prayer'; choose from balance, standardise, replay, codec, line, match, dro, vrex, irm, reverse, hsic, retrain"),
    ((("replay", 2.),), lambda m: m, r"remedy replay=2.0: P\(other line\), from 0 to 1"),
    ((("replay", .5), ("codec", .5)), lambda m: m, "several other versions .codec, other.; choose one"),
    ((("match", float("inf")),), lambda m: m, "remedy match=inf: weight, a finite number from 0"),
    ((("dro", float("nan")),), lambda m: m, "remedy dro=nan: step η, a finite number from 0"),
    ((("match", "3"),), lambda m: m, "remedy match='3': weight, a finite number from 0"),
    ((("line", .3),), lambda m: m, "remedy line=0.3: its strength has no meaning; give 1"),
    ((("standardise", 0.),), lambda m: m, "remedy standardise=0.0: its strength has no meaning; give 1"),
    ((("retrain", 0.),), lambda m: m, "remedy retrain=0.0: L2 weight, a finite number above 0"),
    ((("match", 1.), ("dro", .1), ("match", 3.)), lambda m: m, "remedy match is given 2 times; keep one"),
    ((("dro", .1),), lambda m: m.assign(channel=m.channel.where(m.index != train_rows(m)[2])),
     "remedy dro reads the line, and the column 'channel' is empty for 1 of [0-9]+ training utterances, first '.+'; fill it in, or .* .replay, codec, line, match."),
    ((("balance", 1.),), lambda m: m.assign(channel=m.channel.mask(m.index.isin(train_rows(m)[:2]), " ")), "'channel' is empty for 2 of"),
])
def test_what_is_missing_is_said(tied, remedy, change, words):
    with pytest.raises(ValueError, match=words): rem.known_of(like(ROWS["3"], "x", remedy=remedy), change(tied).reset_index(drop=True))


@pytest.mark.parametrize("name", rem.REMEDIES)
def test_what_reads_the_line_of_what_is_heard_is_refused_beside_codec(name):
    """The made-up telephone on top of a telephone is a telephone: a twin of `codec` is not over *the other* line. Only what
    reads the lines of the recordings themselves goes with it"""
    both = like(ROWS["3"], "x", remedy=(("codec", .5), (name, rem.REMEDIES[name].strength)))
    if name in ("balance", "retrain"): assert set(rem.remedies_of(both)) == {"codec", name}
    elif rem.REMEDIES[name].line:
        with pytest.raises(ValueError, match=f"remedy {name} reads the line of what is heard.*telephone; take one of them"): rem.remedies_of(both)
        assert set(rem.remedies_of(like(both, "y", remedy=(("replay", .5), (name, both.remedy[1][1]))))) == {"replay", name}
    else:
        with pytest.raises(ValueError): rem.remedies_of(both)


def test_a_made_up_telephone_leaves_balance_as_it_is():
    "Weights come from the lines of the recordings; the telephone is then dealt by a coin, alike in each pair"
    data, twin = speech()
    both, lines = rem.with_twins(data, twin), tied_lines()
    alone, with_twin = (rem.remedy_state(fresh(), d, {"balance": 1.}, lines, 0)[1] for d in (data, both))
    assert torch.equal(alone, with_twin) and torch.equal(alone, rem.balance_weights(lines.age, lines.line)) and (alone != 1).any()


def test_an_empty_line_of_a_test_utterance_is_no_matter(tied):
    told = rem.known_of(row("dro", .1), tied.assign(channel=tied.channel.where(tied.split == "train")))
    assert torch.equal(told.line[train_rows(tied)], rem.known_of(row("dro", .1), tied).line[train_rows(tied)])


def test_corpora_stand_for_lines_where_there_is_no_column(tied):
    told = rem.known_of(row("dro", .1), tied.drop(columns="channel").assign(corpus=tied.channel))
    assert torch.equal(told.line, rem.known_of(row("dro", .1), tied).line)
    assert rem.known_of(row("replay"), tied.drop(columns="channel")) is None, "replay needs no label"


def test_the_runner_refuses_before_it_trains(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    rows = {"3": ROWS["3"], "3b": like(ROWS["3"], "3b", remedy=(("balance", 1.),)), "3p": like(ROWS["3"], "3p", remedy=(("prayer", 1.),))}
    runner = Runner("smoke", rows=rows)
    for name, words in (("3b", "nobody of .* was recorded over 'studio'"), ("3p", "no remedy 'prayer'")):
        with pytest.raises(ValueError, match=words): runner.run_all([("3", 0), (name, 0)])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_table1_with_a_remedy():
    "REMEDY=line: every student, no teacher, names and order as in Table 1; results lie in a folder of their own"
    from mkdcls.results.sheets import plans, remedy_named
    (runner, jobs), = plans("table1", "smoke", 1, remedy="line")
    assert {r for r, x in runner.rows.items() if x.remedy == (("line", 1.),)} == set(ROWS) - {"1", "2"} and list(runner.rows) == list(ROWS)
    assert runner.results == "standin-smoke-yours" and runner.heard("3", 0) == ("LTV+FCVE", 0, "telephone") and runner.heard("1", 0) == ("FCVG", 0)
    assert Runner("smoke").key("1", 0) == runner.key("1", 0) and Runner("smoke").key("3", 0)[1] != runner.key("3", 0)[1]
    assert remedy_named("match:3") == (("match", 3.),)
    for name, s in sheet.strengths().items(): assert remedy_named(name) == ((name, s),), "the strength that was chosen"
    assert remedy_named("match") != (("match", rem.REMEDIES["match"].strength),), "its default was not chosen"
    for text, words in (("prayer", "choose one of balance"), ("match:much", "after the colon comes a number")):
        with pytest.raises(ValueError, match=words): plans("table1", "smoke", 1, remedy=text)
    with pytest.raises(ValueError, match="SHEET=ablations does not take it; only table1"): plans("ablations", "smoke", 1, remedy="line")


# ---- other lines

def test_the_made_up_telephone_is_the_same_whenever_it_is_asked(tied):
    waves, n = render(tied.head(3))
    heard = rem.made_up_telephone(waves, n, tied.utterance[:3])
    alone = rem.made_up_telephone(waves[1:2, :int(n[1])], n[1:2], tied.utterance[1:2])
    assert_close(heard[1, :int(n[1])], alone[0], atol=2e-2, rtol=0), "a codec rounds; a batch does not matter"
    assert heard.shape == waves.shape and heard.dtype == torch.float32 and not torch.equal(heard, waves)


def test_twins_are_rendered_once_and_kept(tmp_path, monkeypatch, tied):
    from mkdcls.intake import twins
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    few = tied.head(4)
    other = twins.over_another_line(few, "abc", "other")
    back = twins.over_another_line(rem.other_line(few), "abd", "other")
    assert torch.equal(other.n_frames, back.n_frames) and not torch.equal(other.values, back.values)
    monkeypatch.setattr("mkdcls.intake.features.waves_of_rows", lambda rows: pytest.fail("rendered again"))
    assert torch.equal(twins.over_another_line(few, "abc", "other").values, other.values)


# ---- the sheet

def made_up_runs(seeds=3):
    "Base loses 40 points, replay 4, with a known spread over seeds; matching is known from one seed only"
    lines = []
    for seed, (remedy, lost, at_0) in itertools.product(range(100, 100 + seeds), (("none", 40, 66), ("replay", 4, 65.5), ("match", 8, 64))):
        if remedy == "match" and seed > 100: continue
        for student, rho in itertools.product(("base", "+MKD+CH"), (0., .8)):
            spread = {100: 0., 101: 1., 102: 2.}[seed] * (remedy == "replay")
            lines.append(dict(row=f"3{remedy}", seed=seed, student=student, remedy=remedy, train_rho=rho, train_s=60., tv=.2,
                              **{"agesup@-0.8": at_0 - lost - spread, "agesup@0": at_0, "agesup@0.8": at_0}))
    return pd.DataFrame(lines)


def test_contrasts_by_hand():
    t = sheet.remedy_contrasts(made_up_runs()).query("student == 'base' and train_rho == .8").set_index(["remedy", "measure"])
    lost = t.loc[("replay", "lost")]
    assert lost.value == 5 and lost.difference == -35 and lost.word == "better" and lost.declared
    half = 4.302653 * 1 / 3**.5  # t(2), standard deviation 1
    assert (lost.low, lost.high) == (pytest.approx(-35 - half, abs=1e-3), pytest.approx(-35 + half, abs=1e-3))
    assert (lost.value_low, lost.value_high) == (pytest.approx(5 - half, abs=1e-3), pytest.approx(5 + half, abs=1e-3)), "of the points themselves"
    assert t.loc[("replay", "turned")].value == 60.5 and t.loc[("replay", "untied")].difference == -.5, "65.5 against 66 of base, never tied"
    assert t.loc[("replay", "at_0")].difference == -.5 and t.loc[("replay", "at_0")].word == "no difference", "half a point, margin two"
    assert pd.isna(t.loc[("match", "lost")].p) and t.loc[("match", "lost")].word == "" and not t.loc[("match", "lost")].declared
    assert sheet.remedy_contrasts(made_up_runs())["declared"].sum() == 2


def test_a_part_of_the_records_makes_a_page(tmp_path):
    "Before conditions, screened remedies and Table 1's corpus are run, their tables are empty and the count says what is missing"
    table = sheet.write(tmp_path, made_up_runs())
    runs = sheet.read(tmp_path)
    for shown in (sheet.needs_shown(table), sheet.rooms_table(runs), sheet.refusals_table(runs), sheet.shortcut_table(runs)): assert not len(shown)
    assert sheet.figure_needs(runs) is None and sheet.say_needs(table, runs) == ""
    told = sheet.remedies_to_run(runs)
    assert told == ("So far trained: 28 of 180 runs with named remedies and with none, 0 of 42 with screened remedies, 0 of 33 under conditions that train anew "
                    "and 0 of 30 on Table 1's own corpus.")
    found = sheet.least_lost(table, "base")
    assert found.name == "replay" and found.tried == 1 and found.zero["difference"] == -.5, "matching has one seed only"
    assert found.ends(found.none) == (66, 26) and found.ends(found.best) == (65.5, 60.5)
    told = sheet.say_remedies(table)
    assert "without a remedy it goes from 66.0 to 26.0" in told and "with *replay* from 65.5 to 60.5" in told and "with *match* (1 seed) from" in told
    assert not len(sheet.bound_by_run(runs)) and "a step, ms" in sheet.remedies_shown(table, "base"), "records from before right answers were kept"
    assert "not yet run without a remedy" in sheet.say_remedies(table[~((table.student == "+MKD+CH") & (table.remedy == "none"))])


def test_both_prices_are_told():
    "One remedy is free where nothing is tied and dear where something is; it is not called cheap"
    runs = made_up_runs()
    runs.loc[(runs.remedy == "replay") & (runs.train_rho == .8), [c for c in runs if c.startswith("agesup@")]] -= 7
    t = sheet.remedy_contrasts(runs)
    p = sheet.prices(t, "base").loc["replay"]
    assert (p.where_free, p.where_tied, p.lost, p.seeds) == (.5, 7.5, 5, 3)
    told = sheet.say_remedies(t)
    assert "*replay* 0.5 untied, 7.5 tied" in told and "of this page): replay; of these less than 2 points below by both prices: none." in told
    assert "by both prices: replay." in sheet.say_remedies(sheet.remedy_contrasts(made_up_runs()))
    between = pd.concat([runs, runs[(runs.train_rho == .8) & (runs.student == "base") & (runs.remedy != "match")].assign(train_rho=.4)])
    told = sheet.say_remedies(sheet.remedy_contrasts(between))
    assert told.count("Trained at ρ = 0.4") == 1 and "over the same test: 40.0 without a remedy; with *replay* 5.0.\n" in told
    assert "*replay* not measured" in sheet.say_remedies(sheet.remedy_contrasts(made_up_runs().query("train_rho == .8")))


def test_right_answers_and_what_moves_by_hand(monkeypatch):
    """Five people, three young, two old; the answers of the second and the fourth move with the line

    At ρ = 1 (nearly) the old are heard in the studio, at −1 the young.
    """
    m = pd.DataFrame(dict(age=[22., 21., 23., 68., 69.], e_channel=0.))
    got = {f"{w}_gender": np.zeros(5, int) for w in ("studio", "telephone")} | dict(
        studio_agesup=np.array([0, 2, 0, 2, 2]), telephone_agesup=np.array([0, 0, 0, 0, 2]), tv=np.array([0., 1, 0, 1, 0]))
    monkeypatch.setattr(sheet, "heard_over_lines", lambda *a: got)
    monkeypatch.setattr(sheet, "truth", lambda m, t: np.array([0, 0, 0, 2, 2]) if t == "agesup" else np.zeros(5, int))
    runner = type("R", (), dict(rows={"3none": ROWS["3"]}))
    out = sheet.scores_by_rho(runner, "3none", 100, m, (-.99, .99), {})
    assert (out["agesup_right@0.99"], out["agesup_right@-0.99"], out["moved"], out["tv"]) == (100, 60, 40, .4), "the bound is reached"
    runs = pd.DataFrame([dict(student="base", remedy="none", row="3none", seed=100, train_rho=.8, train_s=6., steps=60,
                              **{"agesup@0": 60., "agesup_right@0": 75.} | {k: v for k, v in out.items() if "gender" not in k})])
    assert sheet.tested_at(runs) == [-.99, 0, .99], "right answers are no further test"
    each = sheet.lost_by_seed(runs).iloc[0]
    assert (each.right_lost, each.moved, each.step_ms) == (40, 40, 100)
    assert sheet.bound_by_run(runs)[["right_lost", "moved"]].to_numpy().tolist() == [[40, 40]]
    t = sheet.remedy_contrasts(runs).set_index("measure")["value"]
    assert (t["right_lost"], t["moved"], t["step_ms"]) == (40, 40, 100)


@pytest.mark.parametrize("n, batch, steps", [(64, 32, 2), (65, 32, 2), (66, 32, 3), (1, 32, 1), (33, 32, 1)])
def test_steps_are_those_of_the_loop(n, batch, steps):
    from mkdcls.training import batches
    rec = dict(identity=dict(recipe=dict(settings=dict(epochs=3, batch=batch))), utterances=dict(train=n))
    assert sheet.steps_of(rec) == 3*steps == 3*len(batches(torch.full((n,), 50), batch, 0))


def test_nothing_is_left_when_all_of_the_plan_has_run():
    s = sheet.RemedyRunners("laptop", device="cpu")
    lines = [dict(student=sheet.STUDENTS[r[0]], remedy=r[1:], train_rho=k.rho, condition="", seed=x) for k, r, x in s.wanted(5)]
    under = [dict(student="base", remedy=r[1:].removesuffix(f"-{c}"), train_rho=.8, condition=c, seed=x) for c, jobs in s.wanted_disturbed(5).items() for r, x in jobs]
    assert sheet.remedies_to_run(pd.DataFrame(lines + under)) == ""
    timed = pd.DataFrame([dict(total_s=t, key=k) for t, k in ((60., "a"), (60., "a"), (120., "b"), (np.nan, np.nan))])
    told, n = sheet.plan_minutes(timed), len(lines + under)
    assert "took 90 s on average" in told and f"all {n} runs of the plan are about {n*1.5:.0f} minutes" in told
    assert sheet.plan_minutes(timed[3:]) == "" == sheet.plan_minutes(made_up_runs())
    assert "32 of 33 under conditions" in sheet.remedies_to_run(pd.DataFrame(lines + under[1:]))


def test_choice_takes_the_best_mean_and_the_weakest_of_equals(tmp_path):
    scores = pd.DataFrame([("match", .3, 90, 60.), ("match", .3, 91, 62.), ("match", 1., 90, 61.), ("match", 1., 91, 61.), ("match", 3., 90, 50.),
                           ("dro", .01, 90, 60.), ("dro", .1, 90, 63.)], columns=["remedy", "strength", "seed", "score"])
    scores.to_csv(tmp_path / "c.csv", index=False)
    got = sheet.strengths(tmp_path / "c.csv")
    assert got["match"] == .3 and got["dro"] == .1 and got["vrex"] == rem.REMEDIES["vrex"].strength
    how = sheet.strengths_shown(tmp_path / "c.csv")
    assert tuple(how.loc["match"]) == (.3, "chosen") and how.loc["vrex", "how"] == "default, not chosen yet" and how.loc["replay", "how"] == "nothing to choose"
    assert sheet.strengths(tmp_path / "none.csv") == {n: m.strength for n, m in rem.REMEDIES.items()}


def test_seeds_of_choice_and_report_do_not_meet():
    s = sheet.RemedyRunners("laptop", device="cpu")
    wanted = s.wanted(5)
    assert {seed for _, _, seed in wanted} == set(range(100, 105)) and not {seed for _, _, seed in wanted} & set(sheet.CHOOSING)
    by_row = pd.Series([r for k, r, _ in wanted if k.rho == .8]).value_counts()
    assert (by_row[[b + n for b in "36" for n in ("none", *sheet.NAMED)]] == 5).all() and (by_row[[b + n for b in "36" for n in sheet.SCREENED]] == 1).all()
    assert all(s.rows[b + n].reestimate for b in "36" for n in ("none", *rem.REMEDIES))
    people = sheet.strangers(100, 30)
    assert not set(people.speaker) & set(s.runner(Knobs(rho=.8)).manifest("LTV+FCVE", 100)[0].speaker)


def test_no_row_of_the_laptop_sheet_is_refused():
    s = sheet.RemedyRunners("laptop", device="cpu")
    assert not [(r, seed) for k, r, seed in s.wanted(1) if k.rho == .8 and s.refused(k, r, seed)]


# ---- what must be known, taken away

def test_a_fifth_of_the_training_speakers_get_the_other_line_and_nobody_else(tied):
    wrong = dis.with_wrong_lines(tied, 100)
    moved = (wrong.channel != tied.channel).to_numpy()
    train = (tied.split == "train").to_numpy()
    assert not moved[~train].any() and moved[train].sum() == round(.2 * train.sum())
    assert wrong.drop(columns="channel").equals(tied.drop(columns="channel")), "the audio knows nothing of it"
    assert dis.with_wrong_lines(tied, 100).channel.equals(wrong.channel) and not dis.with_wrong_lines(tied, 101).channel.equals(wrong.channel)


def test_a_twentieth_is_the_set_that_the_last_layer_draws():
    m = role_manifest("LTV+FCVE", PRESETS["laptop"], 100, knobs=Knobs(rho=.8))[0]
    r = row("balance", 1.)
    rows, train = dis.few_known(r, m, 100), torch.from_numpy(np.flatnonzero((m.split == "train").to_numpy()))
    k = rem.known_of(r, m)
    small = rem.small_balanced(k.cell, train, seed=100)  # as `remedies.finish` draws it
    assert set(rows.tolist()) == set(small.tolist()) and len(rows) == len(train)
    assert .04 * len(train) < len(small) <= .05 * len(train) and k.cell[small].bincount().unique().numel() == 1
    times = rows.bincount()[small]
    assert times.max() - times.min() <= 1


def test_a_room_is_tied_to_age_as_the_line_is_and_independent_of_it_given_age():
    m = draw_manifest(STANDINS["LTV"], 4000, seed=100)
    for rho in (-.8, 0., .8):
        room = dis.in_room(m, rho, 100)
        studio = dis.choose_channel("by_age", rho, m.age, m.e_channel) == "studio"
        assert abs(np.corrcoef(m.age, room)[0, 1] - np.corrcoef(m.age, studio)[0, 1]) < .05
    young = (m.age < 40).to_numpy()
    assert abs(np.corrcoef(dis.in_room(m, .8, 100)[young], m.e_channel[young])[0, 1]) < .05


def test_speech_in_a_room_and_over_another_codec(tied):
    six = pd.concat([tied[tied.channel == c].head(3) for c in ("studio", "telephone")])
    plainly, n = render(six)
    as_it_was, k = dis.waves_met(six.assign(room=False, met=False))
    assert torch.equal(plainly, as_it_was) and torch.equal(n, k)
    codecs = iter(six.codec[six.channel == "telephone"])
    again, _ = dis.waves_met(six.assign(room=False, met=True), codec=lambda w: apply_codec(w, next(codecs)))
    assert torch.equal(plainly, again), "the way to the codec is the generator's, bit for bit"
    coded, _ = dis.waves_met(six.assign(room=False, met=True))
    assert torch.equal(plainly[:3], coded[:3]) and (plainly[3:] != coded[3:]).any(1).all(), "the telephone alone"
    assert all(np.corrcoef(a[:j], b[:j])[0, 1] > .8 for a, b, j in zip(plainly, coded, n.tolist()))
    room, _ = dis.waves_met(six.assign(room=True, met=False))
    assert (plainly != room).any(1).all() and all(abs(np.corrcoef(a[:j], b[:j])[0, 1]) < .98 for a, b, j in zip(plainly, room, n.tolist()))


def test_conditions_have_keys_of_their_own_and_change_no_other():
    s = sheet.RemedyRunners("laptop", device="cpu")
    plan, main = s.plan(5), s.runner(Knobs(rho=.8))
    keys = {(r.condition if isinstance(r, dis.DisturbedRunner) else "", str(r.knobs.turned()), *j): r.key(*j)[1] for r, jobs in plan for j in jobs if j[1] == 100}
    assert len(set(keys.values())) == len(keys)
    plainly = Runner("laptop", device="cpu", rows=sheet.remedy_rows(PRESETS["laptop"]), knobs=Knobs(rho=.8))
    assert all(plainly.key(row, 100)[1] == main.key(row, 100)[1] for row in plainly.rows)
    each = {seed: sum(seed == j[1] for r, jobs in plan if isinstance(r, dis.DisturbedRunner) for j in jobs) for seed in range(100, 105)}
    assert each == {100: 11, 101: 11, 102: 11, 103: 0, 104: 0} and s.references(5) == [(f"3{n}", seed) for n in ("codec", "retrain") for seed in (101, 102)]
    assert not [why for c in dis.CONDITIONS for n in dis.CONDITIONS[c].trains if (why := s.refused_disturbed(c, dis.disturbed_row(n, c), 100))]


def test_conditions_that_nobody_knows():
    with pytest.raises(ValueError, match="condition='fog': choose one of wrong_lines, line_unknown"): dis.DisturbedRunner("smoke", condition="fog")
    with pytest.raises(ValueError, match="give Knobs"): dis.DisturbedRunner("smoke", condition="tied_room")
    told = sheet.refusals(sheet.RemedyRunners("smoke", device="cpu"))
    assert [t["remedy"] for t in told] == [n for n, m in rem.REMEDIES.items() if m.line] and {t["condition"] for t in told} == {"line_unknown"}
    assert set(dis.CONDITIONS["line_unknown"].same) <= {n for n, m in rem.REMEDIES.items() if not m.line}


def test_few_labels_train(tmp_path, monkeypatch):
    "Where the smoke preset has everybody: no tie"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    name = dis.disturbed_row("balance", "few_balanced")
    rows = {name: like(ROWS["3"], name, remedy=(("balance", 1.),), reestimate=True)}
    runner = dis.DisturbedRunner("smoke", condition="few_balanced", device="cpu", knobs=Knobs(rho=0.), rows=rows)
    assert np.isfinite(runner.run(name, 100)["curves"][-1]["total"])
    assert type(runner)(**runner.again()[1]).key(name, 100) == runner.key(name, 100), "another process makes the same runner"


def test_conditions_by_hand():
    runs = made_up_runs().assign(condition="", refused=np.nan)
    under = runs[(runs.student == "base") & (runs.train_rho == .8) & (runs.remedy == "replay")].assign(condition="tied_room")
    runs = pd.concat([runs, under.assign(**{"agesup@-0.8": under["agesup@-0.8"] - [10, 11, 12]})], ignore_index=True)
    t = sheet.remedy_contrasts(runs)
    pd.testing.assert_frame_equal(sheet.undisturbed(t).reset_index(drop=True), sheet.remedy_contrasts(made_up_runs()), check_dtype=False)
    lost = t[(t.condition == "tied_room") & (t.measure == "lost")].iloc[0]
    assert lost.value == 16 and lost.difference == 11 and lost.word == "worse" and lost.low < 11 < lost.high and not lost.declared
    same = t[(t.condition == "wrong_lines") & (t.measure == "lost")].set_index("remedy")
    assert same.loc["replay"].value == 5 and same.loc["replay"].word == "the same run" and same.loc["replay"].n_seeds == 3
    two = sheet.remedy_contrasts(runs[(runs.condition == "") | (runs.seed < 102)])
    assert two[(two.condition == "wrong_lines") & (two.measure == "lost")].set_index("remedy").loc["replay"].n_seeds == 2, "the seeds of the conditions"
    assert "*replay* 16 (+11)" in sheet.say_needs(t, runs)
    assert sheet.needs_shown(t).loc[(dis.CONDITIONS["tied_room"].words, "replay"), "points lost"].startswith("16.0 (+11.0 [")


# ---- what a reader turns

def test_shares_of_what_is_heard_are_those_of_the_generator():
    m = draw_manifest(STANDINS["LTV"], 60_000, seed=1)
    old = m.age.between(64, 66).to_numpy()
    studio = torch.from_numpy((dis.choose_channel("by_age", .8, m.age, m.e_channel) == "studio").astype(int))
    assert by_hand.heard_shares("none", 65., .8)["studio"] == pytest.approx(float(studio[old].double().mean()), abs=.02)
    w = rem.balance_weights(torch.from_numpy(np.select([m.age < 40, m.age < 60], [0, 1], 2)), studio)
    balanced = float((w * studio)[old].sum() / w[old].sum())
    assert by_hand.heard_shares("balance", 65., .8)["studio"] == pytest.approx(balanced, abs=.02) and balanced < .75
    for n, rho in itertools.product(("none", *rem.REMEDIES), (0., .8)): assert sum(by_hand.heard_shares(n, 65., rho).values()) == pytest.approx(1)
    assert by_hand.heard_shares("line", 65., .8)["telephone"] == 1 and by_hand.heard_shares("match", 65., .8)["studio"] == .5
    assert by_hand.heard_shares("codec", 65., .8)[by_hand.MADE_UP] == .5 and by_hand.heard_shares("dro", 65., .8) == by_hand.heard_shares("none", 65., .8)


@pytest.fixture
def kept_dial(tmp_path):
    runs = made_up_runs().assign(preset="smoke", condition="")
    sheet.write(tmp_path, pd.concat([runs, runs.assign(condition="tied_room").query("train_rho == .8 and student == 'base'")]))
    return tmp_path


def test_the_dial_draws_kept_records(kept_dial):
    import matplotlib.pyplot as plt
    runs, told = by_hand.kept_records(kept_dial)
    assert "Plumbing only" in told and "3 seeds" in told and set(runs.student) == {"base"} and set(runs.condition) == {""}
    assert by_hand.trained_at(runs) == [.8, 0.]
    _, ax = plt.subplots()
    by_hand.draw_scores(ax, runs, .8, "replay")
    drawn = {l.get_label(): l.get_ydata() for l in ax.lines if not l.get_label().startswith("_")}
    assert drawn["none"].tolist() == [26, 66, 66] and drawn["replay"].tolist() == [60.5, 65.5, 65.5]
    by_hand.draw_scores(ax, runs, .8, "dro")
    assert any("dro: not trained at ρ = 0.8" in t.get_text() for t in ax.texts)
    plt.close("all")


def test_the_dial_without_records_says_so_and_still_plays(tmp_path, capsys):
    told = by_hand.kept_records(tmp_path / "none")
    assert told[0] is None and "No scores yet" in told[1] and "make table SHEET=remedies" in told[1]
    by_hand.control(tmp_path / "none")
    ways = by_hand.heard_three_ways()
    assert list(ways) == ["studio", "telephone", by_hand.MADE_UP] and len({len(w) for w in ways.values()}) == 1 and len(ways["studio"]) < 2 * 8000


def test_the_dial_turns(kept_dial, monkeypatch):
    "With widgets: every setting draws and plays"
    w = pytest.importorskip("ipywidgets")
    shown, boxes = [], []
    monkeypatch.setattr(by_hand, "live", lambda: True)
    monkeypatch.setattr(by_hand, "one_picture", lambda runs, rho, remedy: shown.append((rho, remedy)))
    monkeypatch.setattr(by_hand, "play", lambda wave, rate, caption: shown.append(caption))
    monkeypatch.setattr(w, "VBox", lambda parts: boxes.extend(parts))
    by_hand.control(kept_dial)
    rho, remedy = boxes[:2]
    assert (.8, "replay") in shown and "studio: 50% of what is heard of people aged 65" in shown
    shown.clear()
    rho.value, remedy.value = 0., "none"
    assert shown[-3] == (0., "none") and shown[-2] == "studio: 50% of what is heard of people aged 65"


def test_a_real_command(tmp_path, monkeypatch):
    "The sheet at smoke with two rows trained, then drawn again from its records"
    import os
    code = ("from mkdcls.results import remedies_sheet as s; s.STUDENTS = {'3': 'base'}; s.NAMED = ('replay',); s.SCREENED = (); s.SHORTCUT = ('line',)\n"
            "from mkdcls.results.disturbed import Condition; s.CONDITIONS.clear()\n"
            "s.CONDITIONS.update(tied_room=Condition('a room', trains=('replay',)), other_codec=Condition('a codec', listens=('none',)),"
            "    line_unknown=Condition('none', refuses=True))\n"
            "if __name__ == '__main__':\n"
            "    a = s.RemedyRunners('smoke', device='cpu', extent=s.Extent(6, (0., .8), (-.8, 0., .8)))\n"
            "    a.run(1); s.write(%r, s.remedy_records(a, 1)); print(a.todo(1).to_string())" % str(tmp_path / "out"))
    env = os.environ | {"MKDCLS_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (tmp_path / "go.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "go.py")], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = sheet.read(tmp_path / "out")
    assert sorted(sheet.undisturbed(runs).row) == sorted(["3none", "3replay"] * 2 + ["3none", "3line"] + ["oracle"])
    assert sorted(runs.row[runs.train_rho.notna() & (runs.condition != "")]) == ["3none", "3replay-tied_room"] and runs.refused.notna().sum() == 8
    assert runs.loc[runs.condition == "tied_room", "agesup_line@-0.8"].notna().all()
    assert runs.loc[runs.train_rho.notna() & (runs.condition == ""), ["agesup@-0.8", "agesup@0.8", "tv"]].notna().all(axis=None)
    table = sheet.write(tmp_path / "out")
    pd.testing.assert_frame_equal(table, sheet.remedy_contrasts(runs))
    assert set(sheet.undisturbed(table).remedy) == {"none", "replay"} and set(table.condition) == {"", "tied_room", "other_codec", "line_unknown", "wrong_lines"}
    command = "-m mkdcls.results.cli table --sheet remedies --preset smoke --corpus real --real".split()
    refused = subprocess.run([sys.executable, *command, str(tmp_path)], env=env, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode and "only the stand-in knows" in refused.stderr + refused.stdout


def test_the_papers_own_shortcut_by_hand():
    "Means over seeds, and differences paired by seed: 12, 14, 16 and their t interval"
    rows = [dict(student="base", remedy=r, seed=100 + i, train_rho=np.nan, condition="", ltv_agesup=60. + d, pooled_agesup=70. - d,
                 over_60_on_telephone=50. + i + (12 + 2*i)*d, studio_auc_in_x=100. - 30*d) for r, d in (("none", 0), ("line", 1)) for i in range(3)]
    runs = pd.DataFrame([*rows, dict(student="base", remedy="none", seed=100, train_rho=.8, condition="")])
    t = sheet.shortcut_gains(runs).set_index(["remedy", "measure"])
    old = t.loc[("line", "over_60_on_telephone")]
    assert old.value == 65 and old.difference == 14 and old.low == pytest.approx(14 - 4.3027*2/3**.5, abs=1e-3) and old.n_seeds == 3
    assert np.isnan(t.loc[("none", "ltv_agesup"), "difference"]) and len(t) == 8
    shown = sheet.shortcut_table(runs)
    assert list(shown.index) == [("base", "none"), ("base", "line")] and shown.iloc[0, 0] == "60.0" and shown.shape[1] == 4
    more = pd.concat([runs, pd.DataFrame([r | dict(student="+MKD+CH", studio_auc_in_z=99.) for r in rows])])
    both = sheet.shortcut_table(more)
    assert both.shape[1] == 5 and list(both.iloc[:, -1]) == ["", "", "99.0", "99.0 (+0.0 [+0.0, +0.0])"]
    told = sheet.say_shortcut(runs)
    assert "65 % are called elderly instead of 51 (+14.0 [" in told and "by +1.0 on LTV alone and by -1.0 on all (3 seeds)" in told
    assert sheet.say_shortcut(runs.drop(columns="ltv_agesup")) == "" == sheet.say_shortcut(runs[runs.remedy == "none"])


@pytest.mark.parametrize("twin, teacher", [("telephone", False), ("codec", False), ("", False), ("telephone", True)])
def test_the_probe_asks_over_the_line_that_the_row_was_tested_on(monkeypatch, twin, teacher):
    "`line` is trained and tested over the telephone; a made-up one by a coin is in training only. K is asked beside X"
    from mkdcls.counterfactuals import Response
    n = 20
    m = pd.DataFrame(dict(split="test", channel=["studio", "telephone"] * (n // 2), age=70., agesup="60+"))
    answers = pd.DataFrame(dict(corpus="LTV", true_agesup=[0, 1, 2, 2], agesup=[0, 1, 2, 1]))
    class Asked:
        store = type("S", (), dict(predictions=staticmethod(lambda *_: answers)))
        def key(self, row, seed): return None, "k"
        def heard(self, row, seed): return "LTV+FCVE", seed, *([twin] if twin else [])
        def data(self, role, seed): return type("C", (), dict(manifest=m, features="own"))
        def twins(self, role, seed, kind): return type("C", (), dict(features=f"over the {kind}"))
        def trained(self, row, seed): return None
    heard = []
    def network_hears(model, features, rows, tasks):
        heard.append(features)
        blind = np.ones((len(rows), 1))
        return Response({}, blind, np.arange(len(rows))[:, None] % 2.) if teacher else Response({}, np.arange(len(rows))[:, None] % 2.)
    monkeypatch.setattr(sheet, "network_hears", network_hears)
    monkeypatch.setattr(sheet, "truth", lambda m, task: pd.Series(2, m.index))
    scores = sheet.shortcut_scores(Asked(), "3line", 100)
    assert heard == ["over the telephone" if twin == "telephone" else "own"]
    assert scores["over_60_on_telephone"] == 50 and scores["under_60_on_telephone"] == 0
    if teacher: assert scores["studio_auc_in_x"] == 50 and scores["studio_auc_in_z"] == 100, "here K alone tells the studio"
    else: assert scores["studio_auc_in_x"] == 100 and np.isnan(scores["studio_auc_in_z"]), "without a teacher Z is X"


def test_the_shortcut_in_short(tmp_path):
    assert sheet.shortcut_in_short(tmp_path) == ""
    def line(remedy, old): return dict(student="base", remedy=remedy, seed=100, train_rho=np.nan, condition="",
                                       ltv_agesup=60, pooled_agesup=70, over_60_on_telephone=old, studio_auc_in_x=99)
    pd.DataFrame([line("none", 52)]).to_csv(tmp_path / sheet.REMEDY_RUNS)
    assert sheet.shortcut_in_short(tmp_path) == "", "nothing to compare"
    pd.DataFrame([line("none", 52), line("line", 65)]).to_csv(tmp_path / sheet.REMEDY_RUNS)
    assert "recognises 65 % of the people over sixty on the telephone, instead of 52 %" in sheet.shortcut_in_short(tmp_path)
