"The sheets of interventions: what is heard is what was rendered, every table follows from answers, nulls are null"
import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.counterfactuals import Response, render_intervened, network_hears
from mkdcls.encoders import encoder
from mkdcls.results import intervention_sheet as sheets
from mkdcls.evaluation import confusion, prf
from mkdcls.fbank import network_input
from mkdcls.model import MultiTaskModel
from mkdcls.runs import Knobs
from mkdcls.scm import truth
from mkdcls.standin import choose_channel, render

CPU = torch.device("cpu")


def untrained(row, seed):
    torch.manual_seed(sheets.RHO_ROWS.index(row) + 10 * seed)
    teacher = encoder("ecapa", "teacher", scale_name="smoke") if row not in ("3", "5") else None
    return MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"), teacher, seed=seed).eval()


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    "The smoke sheet with networks that were never trained: all plumbing, no training"
    patch = pytest.MonkeyPatch()
    patch.setenv("MKDCLS_RUNS", str(tmp_path_factory.mktemp("runs")))
    s = sheets.InterventionRunners("smoke", device="cpu", size=sheets.Size(4, (0., .8), (-.8, 0., .8), (.4,), (1.,), 100))
    patch.setattr("mkdcls.results.runner.Runner.trained", lambda self, row, seed: untrained(row, seed))
    yield s
    patch.undo()


@pytest.fixture(scope="module")
def listened(sheet): return sheets.listen(sheet, 2)


@pytest.fixture(scope="module")
def rho(sheet): return sheets.knob_rho(sheet, 1)


def test_rendered_is_what_render_makes_and_is_made_once(sheet, monkeypatch):
    m = sheets._test(sheet.runner(), 0).head(2)
    f, at = sheets.rendered(m, sheets.WORLDS, CPU)
    for world, do in sheets.WORLDS.items():
        for i in range(2):
            x, n = network_input(*render(render_intervened(m.iloc[[i]], **do)))
            row = int(at[world][i])
            assert int(f.n_frames[row]) == int(n[0])
            torch.testing.assert_close(f.values[int(f.starts[row]):][:int(n[0])], x[0, :int(n[0])], rtol=2e-3, atol=.07)  # steps of float16
    monkeypatch.setattr("mkdcls.intake.features.waves_of_rows", lambda rows: pytest.fail("rendered again"))
    sheets.rendered(m, sheets.WORLDS, CPU)


def test_settings_that_sound_the_same_share_their_features(sheet, monkeypatch):
    a, b = (sheets._test(sheet.runner(Knobs(rho=r)), 0) for r in (0., .8))
    assert not a["rho"].equals(b["rho"])
    both = {c: sheets.WORLDS[c] for c in ("studio", "telephone")}
    told = []
    monkeypatch.setattr(sheets, "features_of", lambda every, print_, progress=None: told.append(print_))
    monkeypatch.setattr(sheets, "placed", lambda f, device: f)
    for m in (a, b, a.assign(age=a["age"] + .1)): sheets.rendered(m, both, CPU)
    assert told[0] == told[1] != told[2]


def test_a_rho_in_the_test_is_a_choice_between_two_renderings(sheet):
    m = sheets._test(sheet.runner(Knobs(rho=0.)), 0).head(6)
    studio, telephone = (render(render_intervened(m, channel=c))[0] for c in ("studio", "telephone"))
    for r in (-.8, .4, .8):
        pick = choose_channel("by_age", r, m["age"], m["e_channel"]) == "studio"
        wave, _ = render(m.assign(line="by_age", rho=r))
        assert torch.equal(wave, torch.where(torch.from_numpy(pick)[:, None], studio, telephone))


def test_effects(sheet, listened):
    t = sheets.effects(sheet, listened)
    oracle = t[t["row"] == "oracle"]
    assert (oracle.loc[oracle["under"].isin(sheets.IDLE), ["value", "low", "high"]] == 0).all(axis=None)
    assert set(t["row"]) == {"oracle", *sheets.ROWS} and (t["n_seeds"] == 2).all() and (t["n_speakers"] == 8).all()
    a = t[(t["row"] == "3") & (t["under"] == "age 25 to 65") & (t["task"] == "agesup") & (t["measure"] == "move")].set_index("against")
    by_hand = np.mean([(o.heard["3"]["age 65"].p["agesup"] - o.heard["3"]["age 25"].p["agesup"]) @ np.arange(3) for o in listened])
    assert a.loc["", "value"] == pytest.approx(by_hand, abs=1e-5)
    assert a.loc["should", "value"] == pytest.approx(a.loc["", "value"] - a.loc["", "should"], abs=2e-5)
    z = t[(t["measure"] == "z_teacher") & (t["against"] == "")]
    assert set(z["row"]) == {"4a", "6"} and z.loc[~z["under"].isin(sheets.IDLE), "should"].isna().all()
    assert t[t["row"] == "3"]["against"].isin(["", "should"]).all()


def test_rho_scores_are_those_of_the_recordings_heard(sheet, rho):
    m, net = sheets._test(sheet.runner(Knobs(rho=0.)), 0), untrained("6", 0)
    f, at = sheets.rendered(m, {c: sheets.WORLDS[c] for c in ("studio", "telephone")}, CPU)
    a, b = (network_hears(net, f, at[c]).p["agesup"].argmax(1) for c in ("studio", "telephone"))
    for r in (-.8, .8):
        heard = np.where(choose_channel("by_age", r, m["age"], m["e_channel"]) == "studio", a, b)
        line = rho[(rho["row"] == "6") & (rho["train_rho"] == .8) & (rho["test_rho"] == r) & (rho["task"] == "agesup") & (rho["against"] == "")].set_index("measure")
        assert line.loc["f1", "value"] == pytest.approx(prf(confusion(truth(m, "agesup"), heard, 3))[2], abs=1e-4)
        assert line.loc["accuracy", "value"] == pytest.approx(100 * (heard == truth(m, "agesup")).mean(), abs=1e-4)
    fall = rho[(rho["measure"] == "fall_f1") & (rho["task"] == "agesup") & (rho["train_rho"] == 0)]
    at = rho[(rho["measure"] == "f1") & (rho["task"] == "agesup") & (rho["train_rho"] == 0) & (rho["against"] == "")].set_index(["row", "test_rho"])["value"]
    for p in fall[fall["against"] == ""].itertuples(): assert p.value == pytest.approx(at[p.row, .8] - at[p.row, -.8], abs=2e-5)
    for p in fall[fall["against"] == "base"].itertuples(): assert p.value == pytest.approx(at[p.row, .8] - at[p.row, -.8] - at["3", .8] + at["3", -.8], abs=3e-5)
    assert set(rho["row"]) == {*sheets.RHO_ROWS, "oracle", "chance"}


def test_label_noise_from_kept_answers(sheet, monkeypatch):
    def answers(self, row, seed, key):
        m = sheets._test(sheet.runner(), seed, None)
        y = {t: truth(m, t) for t in sheets.ASKED_TASKS}
        wrong = np.arange(len(m)) < sheets.ROWS.index(row)  # row 3 errs nowhere, 4a once, …
        true = {f"true_{t}": v for t, v in y.items()}
        return pd.DataFrame(dict(speaker=m["speaker"], corpus=m["corpus"], **true, **{t: np.where(wrong, (v + 1) % (v.max() + 1), v) for t, v in y.items()}))
    monkeypatch.setattr("mkdcls.engine.store.RunStore.predictions", answers)
    t = sheets.knob_labels(sheet, 1)
    train = sheet.runner(Knobs(adjacent=.4)).manifest("LTV+FCVE", 0)[0].query("split == 'train'")
    got = t[(t["under"] == "adjacent") & (t["adjacent"] == .4)]
    assert set(got["wrong_labels"]) == {round(100 * (train["agesup"] != train["true_agesup"]).mean(), 5)}
    assert sorted(set(t.loc[t["under"] == "adjacent", "adjacent"])) == [.1, .4]
    assert sorted(set(t.loc[t["under"] == "overlay", "overlay_label"])) == [pytest.approx(1 / 3), 1]
    acc = got[(got["scope"] == "pooled") & (got["task"] == "agesup") & (got["measure"] == "accuracy") & (got["against"] == "")].set_index("row")["value"]
    n = len(sheets._test(sheet.runner(), 0, None))
    for i, row in enumerate(sheets.ROWS): assert acc[row] == pytest.approx(100 * (1 - i / n), abs=1e-4)
    at = t[(t["under"] == "adjacent") & (t["scope"] == "pooled") & (t["task"] == "agesup") & (t["against"] == "")].set_index(["measure", "row", "adjacent"])["value"]
    for row in sheets.ROWS: assert at["fall_accuracy", row, .4] == pytest.approx(at["accuracy", row, .1] - at["accuracy", row, .4], abs=2e-5)


def test_losses_to_wrong_labels_are_paired(sheet, monkeypatch):
    def answers(self, row, seed, key):  # base errs everywhere where more labels are wrong, nobody else ever
        m = sheets._test(sheet.runner(), seed, None)
        y = {t: truth(m, t) for t in sheets.ASKED_TASKS}
        bad = row == "3" and key == "many"
        told = {f"true_{t}": v for t, v in y.items()} | {t: (v + bad) % (v.max() + 1) for t, v in y.items()}
        return pd.DataFrame(dict(speaker=m["speaker"], corpus=m["corpus"], **told))
    monkeypatch.setattr("mkdcls.engine.store.RunStore.predictions", answers)
    monkeypatch.setattr("mkdcls.results.runner.Runner.key", lambda self, row, seed: (None, "few" if self.knobs.adjacent is None else "many"))
    t = sheets.knob_labels(sheet, 1)
    lost = t[(t["measure"] == "fall_accuracy") & (t["under"] == "adjacent") & (t["scope"] == "LTV") & (t["task"] == "gender")]
    lost = lost.set_index(["row", "against"])[["value", "low", "high"]]
    assert (lost.loc[("3", "")] == 100).all() and (lost.loc[("4a", "")] == 0).all() and (lost.loc[("4a", "base")] == -100).all(), "what is lost, less what base loses"


def test_seeds_that_are_recorded_anyway_are_heard(sheet, monkeypatch):
    have = {(r, s) for s in (0, 1, 2, 4) for r in sheets.ROWS} - {("6", 4)}
    monkeypatch.setattr("mkdcls.results.runner.Runner.record", lambda self, row, seed: {} if (row, seed) in have else None)
    assert [sheet.heard_seeds(n) for n in (1, 3, 4)] == [3, 3, 4], "without a gap, and never fewer than asked for"
    assert sheet.todo(1)["runs"].iloc[0] == 3 * len(sheets.ROWS) and (sheet.todo(1)["runs"].iloc[1:] <= len(sheets.RHO_ROWS)).all()


def test_placebo_is_zero_and_nulls_hold_zero(sheet, listened):
    t = sheets.refuters(sheet, listened)
    placebo = t[t["under"].str.startswith("placebo")]
    assert len(placebo) > 20 and (placebo["value"].abs() < 1e-3).all() and (placebo[placebo["row"] == "oracle"]["value"] == 0).all()
    null = t[t["under"].isin(["ages, shuffled names", "line, named by a coin"])]
    assert ((null["low"] <= 0) & (null["high"] >= 0)).all()
    assert (t[(t["row"] == "oracle") & t["under"].str.startswith("line")]["value"] == 0).all()


def test_others():
    groups = np.array([0] * 5 + [1] * 3 + [2])
    for seed in range(20):
        out = sheets.others(groups, np.random.default_rng(seed))
        assert sorted(out) == list(range(9)) and (groups[out] == groups).all()
        assert (out[:8] != np.arange(8)).all() and out[8] == 8


def test_permuted_k_costs_nothing_where_k_is_not_read(sheet, monkeypatch):
    def deaf(self, row, seed):
        net = untrained(row, seed)
        for head in net.heads.values(): head.block[0].weight.data[:, net.student.embed_dim:] = 0
        return net
    monkeypatch.setattr("mkdcls.results.runner.Runner.trained", deaf)
    t = sheets.permuted_k(sheet, 1, times=2)
    lost = t[t["measure"].str.startswith("drop")]
    assert len(lost) == 16 and (lost[["value", "low", "high"]] == 0).all(axis=None)


def test_x_and_k_of_one_utterance_beside_pairs_dealt_anew(sheet, monkeypatch):
    def listener(same):
        def hears(model, f, rows, tasks):
            x = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
            return Response({}, x, x if same else np.random.default_rng(1).normal(size=x.shape).astype(np.float32))
        return hears
    monkeypatch.setattr("mkdcls.results.runner.Runner.trained", lambda self, row, seed: untrained(row, seed))
    monkeypatch.setattr(sheets, "_heads", lambda model, x, k, device: {t: np.zeros(len(x), int) for t in sheets.ASKED_TASKS})
    for same in (True, False):
        monkeypatch.setattr(sheets, "network_hears", listener(same))
        t = sheets.permuted_k(sheet, 1, times=1)
        own, dealt = (t[(t["measure"] == "cka") & (t["under"] == sheets.PAIRED[i])].set_index("row") for i in (0, 1))
        assert set(own.index) == {"4a", "6"} and (own["value"] == own["low"]).all()
        assert np.allclose(own["value"], 1) == same and (own["value"] > dealt["high"]).all() == same


def test_words_figures_and_file(sheet, listened, rho, tmp_path):
    effects, refuters = sheets.effects(sheet, listened), pd.concat([sheets.refuters(sheet, listened), sheets.permuted_k(sheet, 1, times=1)])
    scores = dict(zip((*sheets.ROWS, "chance"), (60., 62, 61, 58, 33)))
    said = [(r, w, "f1", a, v) for r, v in scores.items() for w in (2., 9.) for a in ("", "base") if not (a and r in ("3", "chance"))]
    said += [(r, 9., "fall_f1", a, 0.) for r in sheets.ROWS for a in ("", "base") if r != "3" or not a]
    labels = pd.DataFrame([dict(sheet="label_noise", row=r, method=sheets.ROW_NAMES[r], under="adjacent", wrong_labels=w, scope="LTV", task="agesup",
                                measure=k, against=a,
                                value=v, low=v - 1, high=v + 1, n_seeds=1) for r, w, k, a, v in said]).reindex(columns=sheets.COLUMNS)
    table = sheets.write(tmp_path, effects, rho, labels, refuters)
    back = sheets.read(tmp_path)
    assert len(back) == len(table) and list(back) == sheets.COLUMNS and set(back["sheet"]) == {"effects", "rho", "label_noise", "refuters"}
    for name, draw in sheets.FIGURES.items():
        draw(back, tmp_path)
        first = (tmp_path / "figures" / f"{name}.svg").read_bytes()
        draw(back, tmp_path)
        assert (tmp_path / "figures" / f"{name}.svg").read_bytes() == first, "the same numbers, the same bytes"
    for say in (sheets.say_effects, sheets.say_rho, sheets.say_labels, sheets.say_refuters):
        text = say(back)
        assert "nan" not in text and len(text) > 200
    assert "is 0; it must be 0" in sheets.say_refuters(back)
    assert len(sheets.shown_effects(back)) > 40


def test_words_follow_the_numbers():
    t = pd.DataFrame(dict(method=["a", "b", "c"], low=[.1, -2., -.5], high=[.3, -1., .5]))
    assert (sheets._clear(t), sheets._clear(t, 1), sheets._clear(t, -1)) == (["a", "b"], ["a"], ["b"])
    assert (sheets._list([]), sheets._list(["a"]), sheets._list(["a", "b", "c"])) == ("none", "a", "a, b and c")


def test_only_where_the_truth_is_known():
    with pytest.raises(ValueError, match="only the synthetic stand-in"): sheets.InterventionRunners("smoke", corpus="real")
    with pytest.raises(ValueError, match="choose one of smoke, laptop, gpu"): sheets.InterventionRunners("paper")
    with pytest.raises(FileNotFoundError, match="SHEET=interventions"): sheets.read("/nowhere")


def test_the_plan_covers_every_sheet(sheet):
    plan = sheet.plan()
    assert plan[Knobs()] == sheets.ROWS and plan[Knobs(rho=.8)] == sheets.RHO_ROWS and plan[Knobs(adjacent=.4)] == sheets.ROWS
    todo = sheet.todo(2)
    assert todo["runs"].sum() == 2 * sum(map(len, plan.values())) and (todo["done"] == 0).all()
    assert sheet.records(2).empty
