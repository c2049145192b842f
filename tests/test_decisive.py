"""Protocol 2 in code: fresh speakers, doses, controls, and the tables made from their records."""
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.decisive import (ASKED_ALONE, DRAWN_CAUSES, CONTROLS, DOSES, FIRST_SEED, PRIMARY, CausesTeacher, causes_k, decisive_rows,
                             declared, oracle_answers, regimes)
from mkdcls.engine.store import digest
from mkdcls.evaluation import auc, ordinal_scores
from mkdcls.results import decisive_sheet as sheet
from mkdcls.results.runner import Runner
from mkdcls.runs import PRESETS, Knobs, role_manifest
from mkdcls.seeds import paired_gains

SMOKE = PRESETS["smoke"].protocol2()
ROLES = ("FCVG", "LTV+FCVE", "call centre")


@pytest.mark.parametrize("role", ROLES)
def test_protocol_1_is_part_of_protocol_2(role):
    one, two = (role_manifest(role, p, 7)[0] for p in (PRESETS["smoke"], SMOKE))
    kept = two[two["split"] != "fresh"].set_index("utterance")
    pd.testing.assert_frame_equal(kept.loc[one["utterance"]], one.set_index("utterance"))
    fresh = two[two["split"] == "fresh"]
    assert len(fresh) >= SMOKE.fresh and not set(fresh["speaker"]) & set(one["speaker"])


def test_at_least_4000_fresh_speakers_at_laptop():
    for role in ROLES:
        m = role_manifest(role, PRESETS["laptop"].protocol2(), FIRST_SEED)[0]
        assert m.loc[m["split"] == "fresh", "speaker"].nunique() >= 4000


def test_protocol_1_keeps_its_keys():
    committed = pd.read_csv("paper/results/standin-laptop/runs.csv", dtype={"row": str})
    about = role_manifest("LTV+FCVE", PRESETS["laptop"], 0)[1]
    assert digest(about) in set(committed["data"])
    assert not {"fresh", "factor", "per_speaker", "by", "with_more"} & set(about)


def test_doses_nest_and_leave_the_rest():
    sets = {f: role_manifest("FCVG", SMOKE, 3, knobs=Knobs(teachers=f))[0] for f in (.25, .5, 1., 4.)}
    train = [set(m["utterance"][m["split"] == "train"]) for m in sets.values()]
    assert all(a < b for a, b in zip(train, train[1:])) and len(train[3]) == 4 * len(train[2]) == 16 * len(train[0])
    for split in ("val", "test", "fresh"):
        assert len({tuple(m["utterance"][m["split"] == split]) for m in sets.values()}) == 1
    assert len({digest(role_manifest("FCVG", SMOKE, 3, knobs=Knobs(teachers=f))[1]) for f in sets}) == 4
    with pytest.raises(ValueError, match="too few to train on"):
        role_manifest("FCVG", SMOKE, 3, knobs=Knobs(teachers=.01))


def test_a_dose_of_one_corpus_leaves_the_other():
    same = [digest(role_manifest("FCVG", SMOKE, 0, knobs=k)[1]) for k in (Knobs(), Knobs(students=4))]
    assert same[0] == same[1]
    same = [digest(role_manifest("LTV+FCVE", SMOKE, 0, knobs=k)[1]) for k in (Knobs(), Knobs(teachers=4))]
    assert same[0] == same[1]


@pytest.mark.parametrize("turned, says", [(dict(students=0), "factor above 0"), (dict(by="voice"), "'speaker' or"),
                                          (dict(per_speaker=0), "1 utterance or more")])
def test_knobs_out_of_range(turned, says):
    with pytest.raises(ValueError, match=says): Knobs(**turned)


def test_a_protocol_that_is_not_there():
    with pytest.raises(ValueError, match="'1' or '2'"): Runner("smoke", protocol="3")


def test_causes_determine_k_and_nothing_else_does():
    m, t = role_manifest("LTV+FCVE", SMOKE, 0)[0], CausesTeacher(decisive_rows(SMOKE)["4a"])
    k = causes_k(m, t)
    again = causes_k(m.assign(gender="x", agesup="y", split="z", snr_db=0.), t)
    assert torch.equal(k.pooled, again.pooled) and torch.equal(k.embedding, again.embedding)
    moved = causes_k(m.assign(u_hnr=m["u_hnr"] + 1), t)
    assert (k.embedding - moved.embedding).abs().max() > .1
    # one cause moves K along one direction, the same for everybody: the map is linear
    assert torch.linalg.matrix_rank(k.embedding - moved.embedding, rtol=1e-3) == 1


def test_oracle_beats_every_other_reading_of_the_causes():
    m = role_manifest("LTV+FCVE", PRESETS["laptop"], 5)[0]
    t = oracle_answers(m)
    right = (t["agesup"] == t["true_agesup"]).mean()
    blind = t.assign(agesup=1)
    assert right > .75 > (blind["agesup"] == t["true_agesup"]).mean()
    assert (t.loc[(m["corpus"] == "FCVE").to_numpy(), "agesup"] == 2).all()  # the room tells
    p = np.exp(t[[f"agesub_logit{i}" for i in range(5)]].to_numpy())
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    # calibrated: among those called with p, a share of p is right
    sure = np.exp(t[[f"agesup_logit{i}" for i in range(3)]].to_numpy()).max(1)
    ltv = (m["corpus"] == "LTV").to_numpy()
    assert abs(sure[ltv].mean() - (t["agesup"] == t["true_agesup"])[ltv].mean()) < .03


def test_auc_equals_an_independent_one():
    skm = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y, s = rng.random(400) < .3, np.round(rng.normal(size=400), 1)
    assert abs(auc(s, y) - 100 * skm.roc_auc_score(y, s)) < 1e-9
    assert np.isnan(auc(s, np.zeros(400, bool))) and auc(-s, y) == pytest.approx(100 - auc(s, y))


def test_rows_without_an_agesub_head_get_an_age_too():
    t = pd.DataFrame({f"agesup_logit{i}": [0., 9.] if i == 2 else [0., 0.] for i in range(3)})
    card = ordinal_scores(t.assign(y_agesub=[0, 4], y_agesup=[0, 2]))
    assert set(card) == {"mae_years", "auc_60"} and card["auc_60"] == 100


def test_the_plan_has_what_the_protocol_says():
    from mkdcls.results.sheets import plans
    (first, jobs), *doses = plans("decisive", "laptop", 20)
    seeds = lambda row: sorted(s for r, s in jobs if r == row)
    assert all(seeds(r) == list(range(100, 120)) for r in PRIMARY)
    assert all(seeds(r) == list(range(100, 110)) for r in CONTROLS)
    assert all(seeds(r) == [100, 101, 102] for r in ASKED_ALONE)
    assert [s for _, s in jobs] == sorted(s for _, s in jobs)  # seed by seed
    assert len(doses) == len(DOSES) - 1 and all({s for _, s in j} == {100, 101, 102} for _, j in doses)
    parts = plans("regime", "laptop", 5)
    assert [r.knobs for r, _ in parts] == list(regimes(PRESETS["laptop"]).values()) and all(len(j) == 20 for _, j in parts)
    with pytest.raises(ValueError, match="only the stand-in|what only the stand-in"):
        plans("decisive", "laptop", 1, corpus="real")


# ---- tables, from made-up records

def records(tmp_path, effect: dict, seeds=range(100, 120), sd=.5):
    "runs.csv in which each row scores 60 plus its effect, with a noise that base and row share in part"
    rng, lines = np.random.default_rng(0), []
    for seed in seeds:
        common = rng.normal(0, 3)
        for row in (*PRIMARY, *CONTROLS, *ASKED_ALONE):
            f1 = 60 + common + effect.get(row, 0) + rng.normal(0, sd)
            lines.append(dict(row=row, seed=seed, knobs="{}", agesup_f1=f1, true_agesup_f1=f1 + 5, method="", protocol="2",
                              dataset={"1": "FCVG", "2": "FCVG"}.get(row, "call centre" if row.startswith("1") else "LTV+FCVE"),
                              train_utterances=2880))
    (tmp_path / "decisive").mkdir()
    pd.DataFrame(lines).to_csv(tmp_path / "decisive" / "runs.csv", index=False)
    tops = [dict(role=r, seed=s, agesup_f1=78., true_agesup_f1=90.) for r in ROLES for s in seeds]
    pd.DataFrame(tops).to_csv(tmp_path / "decisive" / "ceilings.csv", index=False)
    return tmp_path / "decisive"


def test_the_family_says_what_was_put_in(tmp_path):
    folder = records(tmp_path, {"6": 4., "10": -4., "9": 0., "5": .1})
    t = sheet.family_table(folder).set_index("contrast")
    assert len(t) == 10
    assert t.loc["+MKD+CH − base, ECAPA-TDNN", "word"] == "better"
    assert t.loc["+MKD+CH − base, ResNet", "word"] == "worse"
    assert t.loc["+CH − base, ECAPA-TDNN", "word"] == "no difference"
    assert t.loc["+MKD+CH − +CH, ECAPA-TDNN", "gain"] == pytest.approx(3.9, abs=.5)
    assert bool(t.loc["+MKD+CH − base, ECAPA-TDNN", "excludes_paper"])  # the paper's is far from 4
    mean = t.loc[[n for n in t.index if n.startswith("+MKD+CH − base,") and n != sheet.MEAN], "gain"].mean()
    assert t.loc[sheet.MEAN, "gain"] == pytest.approx(mean, abs=.02)
    assert (t["p_holm"] >= t["p"]).all()


def test_gains_are_paired_by_seed(tmp_path):
    runs = sheet.read(records(tmp_path, {"6": 2.}, sd=.01))
    g = sheet.seed_gains(runs, "6", "3")
    assert len(g) == 20 and g.std() < .05  # the common noise of a seed, three points, is gone
    assert paired_gains(g).value == pytest.approx(2, abs=.02)
    fewer = runs[~((runs["row"] == "6") & (runs["seed"] == 104))]
    assert list(sheet.seed_gains(fewer, "6", "3").index) == [s for s in range(100, 120) if s != 104]


def test_undecided_names_seeds(tmp_path):
    t = sheet.family_table(records(tmp_path, {"6": 2.}, seeds=range(100, 104), sd=2.)).set_index("contrast")
    line = t.loc["+MKD+CH − base, ECAPA-TDNN"]
    assert line["word"] == "undecided" and line["seeds_needed"] > 4


def test_one_seed_gives_tables_without_words(tmp_path):
    folder = records(tmp_path, {}, seeds=[100])
    assert sheet.family_table(folder).empty and sheet.control_table(folder).empty and len(sheet.score_table(folder)) == 25


def test_pictures_show_the_intervals_of_the_tables(tmp_path):
    "A bar runs from low to high along the axis of the gain, at the height of its contrast; one level of a dose is no curve"
    folder = records(tmp_path, {"6": 4.}, seeds=range(100, 106))
    for table, draw in ((sheet.family_table(folder), sheet.figure_family), (sheet.control_table(folder), sheet.figure_controls)):
        ax = draw(table, tmp_path).axes[0]
        bars = np.concatenate([np.stack(c.get_segments()) for c in ax.collections])
        mine = table if draw is sheet.figure_family else table[table["contrast"].str.contains("^K .* − none")]
        np.testing.assert_allclose(np.sort(bars[:, :, 0], 1), mine[["low", "high"]])
        np.testing.assert_allclose(bars[:, 0, 1], bars[:, 1, 1])
    assert sheet.dose_table(folder).empty
    gains, ax = sheet.declared_gains(folder), sheet.figure_family(sheet.family_table(folder), tmp_path).axes[0]
    drawn = [line.get_xdata() for line in ax.lines if line.get_marker() == "."]
    assert len(drawn) == 10 and all(np.array_equal(x, g) for x, g in zip(drawn, gains.values())), "every seed has its dot"


def test_the_control_in_sentences(tmp_path):
    folder = records(tmp_path, {r: 9. for r in CONTROLS if r.endswith("causes")}, seeds=range(100, 110))
    told = sheet.controls_text(table := sheet.control_table(folder))
    causes = table[table["contrast"].str.startswith("K causes") & ~table["contrast"].str.endswith("alone")]["gain"]
    assert f"true causes is worth {causes.min():+.1f} to {causes.max():+.1f} points over no K (10 seeds)" in told and "the heads can read it beside X in Z." in told
    assert "(widest interval of the two [-0.1, +0.1]; all hold 0)." in sheet.worth_of_k(table.assign(low=-.1, high=.1))
    assert "(widest interval of the two [+0.1, +0.3])." in sheet.worth_of_k(table.assign(low=.1, high=.3))
    weak = table["contrast"].str.startswith("K FCVG − none")
    assert told.endswith("trained on FCVG, is *no difference* (rows 4a, 6, 13).")
    some = table["word"].where(~(weak & table["contrast"].str.endswith("13")), "undecided")
    assert sheet.controls_text(table.assign(word=some)).endswith(
        "is *no difference* (rows 4a, 6); *undecided* (row 13). Where the word is *undecided*, so few seeds may miss a gain.")
    assert "while its heads never see K: " in told and "(10 seeds, widest [" in told and "]). So this" in told and "cosine" not in told, "no curves, no cosine"
    assert "the heads can read it beside X in Z. That the student takes the causes over through Eq. 2 is not shown." in told
    both = sheet.controls_text(table.assign(word="better"))
    assert "heads never see K" in both and "through Eq. 2" not in both, "a student that gains alone"
    without = sheet.controls_text(table[~table["contrast"].str.endswith("alone")])
    assert "heads never see K" not in without and "Eq. 2" not in without
    alone = table["contrast"].str.endswith("alone")
    far = sheet.controls_text(table.assign(cosine=np.where(alone, .1, .8)))
    assert "]; cosine to its target 0.10 to 0.10)" in far and "stayed far from that target" in far
    assert "stayed far" not in sheet.controls_text(table.assign(cosine=.9))
    paired = sheet.control_table(folder).set_index("contrast")["gain"]
    assert paired["K FCVG − untrained, row 6"] == pytest.approx(paired["K FCVG − none, row 6"] - paired["K untrained − none, row 6"], abs=.011)
    assert "cannot test K everywhere" in sheet.controls_text(table.assign(word="undecided"))
    assert sheet.controls_text(table[:1]) == sheet.controls_text(table[:0]) == ""


def test_nearness_to_k_by_hand(tmp_path):
    "λ (1 − cos) with λ = 1/4 is logged: .05 in the last epoch is a cosine of .8"
    objective = lambda dist: json.dumps(dict(objective=dict(dist=dist, dist_weight=.25)))
    pd.DataFrame([dict(row=r, seed=s, recipe=objective(d), knobs=None) for r, d in (("4a", "cos"), ("3", "none"), ("4b", "mse")) for s in (100, 101)]).to_csv(
        tmp_path / "runs.csv", index=False)
    pd.DataFrame([dict(row=r, seed=s, epoch=e, knobs="{}", dist=d) for r in ("4a", "4b") for s, last in ((100, .04), (101, .06)) for e, d in ((1, .2), (2, last))]
                 + [dict(row="4a", seed=100, epoch=2, knobs='{"teachers": 4.0}', dist=.25)]).to_csv(tmp_path / "curves.csv", index=False)
    near = sheet.nearness_to_k(tmp_path)
    assert list(near) == ["4a"] and near["4a"].to_dict() == pytest.approx({100: .84, 101: .76})


def test_a_row_from_another_machine_is_counted(tmp_path):
    "Row 3 of seeds 101 and 103 comes from another device than row 6; a seed without one of them does not count"
    folder = records(tmp_path, {"6": 2.}, seeds=range(100, 104))
    runs = sheet.read(folder)
    assert sheet.on_two_machines(runs, "6", "3", [100, 101]) == 0, "records without a device"
    runs["device"] = np.where((runs["row"] == "3") & runs["seed"].isin([101, 103]), "b", "a")
    assert [sheet.on_two_machines(runs, "6", b, s) for b, s in (("3", [100, 101, 102, 103]), ("3", [100, 101]), ("5", [100, 101]))] == [2, 1, 0]
    runs.to_csv(folder / "runs.csv", index=False)
    control = sheet.control_table(folder).set_index("contrast")["two_machines"]
    assert control["mixup alone − base"] == 2 and control["K causes − none, row 6"] == 0
    dosed = runs[runs["row"].isin(["3", "5", "6"])].assign(knobs='{"adjacent": 0.0}', device="b")
    pd.concat([runs, dosed]).to_csv(folder / "runs.csv", index=False)
    doses = sheet.dose_table(folder).query("curve == 'labels' and against == '3'").set_index(["level", "row"])["two_machines"]
    assert doses[.1, "6"] == 1 and doses[0., "6"] == 0, "of the first three seeds"


def test_age_groups_that_are_wrong(tmp_path):
    "Two of four fresh speakers of LTV+FCVE in one seed, one in the other; a split's own and other roles do not count"
    at = lambda y, seed, role="LTV+FCVE", split="fresh", knobs="{}": pd.DataFrame(dict(
        y_agesup=y, true_agesup=[0, 1, 2, 0], role=role, split=split, seed=seed, knobs=knobs))
    pd.concat([at([1, 1, 2, 1], 100), at([0, 1, 1, 0], 101), at([2, 2, 0, 2], 100, "FCVG"), at([2, 2, 0, 2], 100, split="test"),
               at([0, 1, 2, 0], 100, knobs='{"adjacent": 0.0}')]).to_parquet(tmp_path / "asked.parquet")
    wrong = sheet.wrong_groups(tmp_path)
    assert wrong["{}"].to_dict() == {100: 50, 101: 25} and wrong['{"adjacent": 0.0}'].to_dict() == {100: 0}
    assert sheet.wrong_groups(tmp_path / "nowhere") == {}


def test_single_scores_have_an_interval_over_speakers_within_their_class(tmp_path):
    "A row that is always right has no width; a class of which one of four is missed has that of its binomial"
    y = np.repeat([0, 1, 2], [40, 40, 40])
    wrong = y.copy()
    wrong[:10] = 1
    folder = tmp_path / "decisive"
    folder.mkdir()
    pd.DataFrame([dict(row=r, seed=s, knobs=None, dataset="LTV+FCVE", protocol="2") for r in "36" for s in (100, 101)]).to_csv(
        folder / "runs.csv", index=False)
    n, more = np.arange(len(y), dtype=np.uint16), dict(knobs="{}")
    asked = [pd.DataFrame(dict(n=n, y_agesup=y, corpus="LTV", split="fresh", role="LTV+FCVE", seed=s, **more)) for s in (100, 101)]
    said = [pd.DataFrame(dict(n=n, agesup=a, row=r, seed=s, **more)) for r, a in (("3", y), ("6", wrong)) for s in (100, 101)]
    pd.concat(asked).to_parquet(folder / "asked.parquet")
    pd.concat(said).to_parquet(folder / "answers.parquet")
    got = sheet.over_speakers(folder)
    assert tuple(got.loc["3"]) == (100, 100)
    rng = np.random.default_rng(1)
    missed = rng.binomial(40, .25, (20000, 2))  # by hand: 2 tp / (labels + answers) of each class
    f1 = (200 * (40 - missed) / (80 - missed) + 200 * 40 / (80 + missed) + 100) / 3
    assert np.abs(got.loc["6"] - np.percentile(f1.mean(1), [2.5, 97.5])).max() < .4


def test_ceilings_of_turned_knobs_stand_beside_their_doses(tmp_path):
    folder = records(tmp_path, {"6": 2.}, sd=.01)
    runs = pd.read_csv(folder / "runs.csv", dtype={"row": str})
    clean = '{"adjacent": 0.0}'
    pd.concat([runs, runs[runs["row"].isin(["3", "5", "6"]) & (runs["seed"] < 103)].assign(knobs=clean)]).to_csv(folder / "runs.csv", index=False)
    tops = pd.read_csv(folder / "ceilings.csv")
    pd.concat([tops.assign(knobs="{}"), tops.assign(knobs=clean, agesup_f1=82.)]).to_csv(folder / "ceilings.csv", index=False)
    table = sheet.dose_table(folder)
    assert set(table.query("curve == 'labels' and level == 0")["ceiling"]) == {82.}
    assert set(table.query("curve == 'labels' and level == .1")["ceiling"]) == {round(tops.query("role == 'LTV+FCVE'")["agesup_f1"].mean(), 2)}
    assert sheet.score_table(folder).set_index("row").loc["3", "ceiling"] == round(tops.query("role == 'LTV+FCVE'")["agesup_f1"].mean(), 2)


def test_a_ceiling_is_of_the_row_s_own_seeds(tmp_path):
    "A control of two seeds stands beside the oracle of these two"
    folder = records(tmp_path, {}, seeds=range(100, 104))
    runs, tops = (pd.read_csv(folder / f"{n}.csv", dtype={"row": str}) for n in ("runs", "ceilings"))
    runs[(runs["row"] != "subce") | (runs["seed"] < 102)].to_csv(folder / "runs.csv", index=False)
    tops.assign(agesup_f1=tops["seed"] - 30., knobs="{}").to_csv(folder / "ceilings.csv", index=False)
    top = sheet.score_table(folder).set_index("row")["ceiling"]
    assert (top["3"], top["subce"]) == (71.5, 70.5)


def test_doses_in_sentences(tmp_path):
    "The ends of each curve that was run, +MKD+CH against what is asked of that curve; no curve, no sentence"
    folder = records(tmp_path, {"6": 2., "5": 1.}, sd=.01)
    runs = pd.read_csv(folder / "runs.csv", dtype={"row": str})
    wide = runs[runs["row"].isin(["1", "3", "5", "6"]) & (runs["seed"] < 103)].assign(knobs='{"students": 4.0, "teachers": 4.0}', train_utterances=11520)
    wide.loc[wide["row"] == "6", "agesup_f1"] += 3
    pd.concat([runs, wide]).to_csv(folder / "runs.csv", index=False)
    table = sheet.dose_table(folder)
    assert set(table["curve"]) == {"speakers"} and sheet.doses_shown(table) == ["speakers"]
    told = sheet.doses_text(table)
    assert told.startswith("+MKD+CH − base is +2.0 [") and "] points at 2,880 and +5.0 [" in told
    base = runs[(runs["row"] == "3") & (runs["seed"] < 103)]["agesup_f1"].mean()
    ends = re.search(r"at 11,520 \(training speakers; base itself scores (.*) and (.*)\), a change of \+3\.0 \[\+3\.0, \+3\.0\] \(3 seeds\)\.$", told).groups()
    assert [float(e) for e in ends] == pytest.approx([base, base], abs=.11)
    change = table.query("row == '6' and against == '3'").set_index("level")["change"]
    assert np.isnan(change[1.]) and change[4.] == 3, "paired by seed: what both levels share cancels"
    assert len(sheet.figure_doses(table, tmp_path).axes) == 1
    assert re.fullmatch(r"\+MKD\+CH − base goes from \+2\.\d to \+[45]\.\d between 2,880 and 11,520 \(training speakers\), a change of \+3\.0 \[\+3\.0, \+3\.0\]\. "
                        r"In 1 of 1 panels the gain changes \(intervals without 0; 3 seeds\)\.", sheet.doses_in_short(table))
    wide = table.assign(change_low=-9., change_high=9.)
    assert sheet.doses_in_short(wide).endswith("In no panel (1) is a change from end to end clear; 3 seeds show only large ones.")
    assert sheet.doses_in_short(table[:0]) == sheet.doses_verdict(table[:0]) == ""
    assert sheet.doses_text(table[:0]) == sheet.doses_text(pd.DataFrame()) == ""


def test_a_block_that_hears_nothing_compares_nothing(tmp_path):
    folder = records(tmp_path, {"11": -30, "12": -30, "13": -30})
    assert sheet.compares_nothing(folder) == ["call centre"]


def test_names_of_the_family_are_table_1s():
    rows = decisive_rows(SMOKE)
    for _, row, base in declared().values(): assert rows[row].role == rows[base].role
    assert rows["13-causes"].starts_from == "6-causes" and rows["13-causes"].teacher == DRAWN_CAUSES


@pytest.mark.slow
def test_from_runs_to_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "runs"))
    rows = decisive_rows(SMOKE)
    runner = Runner("smoke", protocol="2", rows=rows)
    turned = Runner("smoke", protocol="2", rows=rows, knobs=Knobs(adjacent=.4))
    parts = [(runner, [("3", 100), ("6-causes", 100)]), (turned, [("3", 100)])]
    for r, jobs in parts: r.run_all(jobs, workers=1)
    rec = runner.record("6-causes", 100)
    assert rec["test_speakers"] == rec["utterances"]["fresh"] >= 40 and rec["identity"]["protocol"] == "2"
    assert {"split_agesup_f1", "as_trained_agesup_f1", "mae_years", "true_auc_60"} <= set(rec["metrics"])
    assert "causes" in rec["identity"] and "causes" not in runner.record("3", 100)["identity"]
    folder = sheet.publish("decisive", parts, tmp_path)
    again = sheet.recomputed(folder)
    assert len(again) == 3 and (again["agesup_f1"] - again["again"]).abs().max() < 1e-4
    lines = pd.read_parquet(folder / "answers.parquet")
    assert set(lines["knobs"]) == {"{}", json.dumps({"adjacent": .4})}
    assert lines["years"].between(20, 70).all()
    assert isinstance(runner.trained("6-causes", 100).teacher.encoder, CausesTeacher)
    sheet.write(tmp_path, "decisive")
    assert (tmp_path / "decisive-scores.csv").exists()

    # what is recorded counts as done where its store is not: only what is missing is run, and joins it
    written = {f.name: f.read_bytes() for f in folder.iterdir()}
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / "another"))
    elsewhere = [(Runner("smoke", protocol="2", rows=rows), [*parts[0][1], ("3", 101)]),
                 (Runner("smoke", protocol="2", rows=rows, knobs=turned.knobs), parts[1][1])]
    left = sheet.left_to_run(elsewhere, folder)
    assert [jobs for _, jobs in left] == [[("3", 101)], []]
    sheet.publish("decisive", elsewhere, tmp_path, continued=True)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == written, "nothing new, nothing changed"
    for r, jobs in left: r.run_all(jobs, workers=1)
    sheet.publish("decisive", elsewhere, tmp_path, continued=True)
    again = sheet.recomputed(folder)
    assert len(again) == 4 and (again["agesup_f1"] - again["again"]).abs().max() < 1e-4
    lines = (folder / "runs.csv").read_text().splitlines()
    old = written["runs.csv"].decode().splitlines()
    assert len(lines) == 5 and set(old) < set(lines) and lines[3].startswith("3,101,")  # in the plan's order
    assert not list((tmp_path / "another").rglob("row6*")), "nothing that was recorded is run again"

    # a record of other code does not count; a record whose answers are gone says so
    (folder / "runs.csv").write_text("\n".join(lines).replace(rec["key"], "0" * 16))
    assert ("6-causes", 100) in sheet.left_to_run(elsewhere, folder)[0][1]
    (folder / "runs.csv").write_text("\n".join(lines))
    (folder / "curves.csv").unlink()
    with pytest.raises(ValueError, match="curves.csv says nothing of row 3, seed 100"):
        sheet.publish("decisive", elsewhere, tmp_path, continued=True)


def three_seeds(folder, scores: dict, **more):
    "runs.csv of seeds 100 to 102: (row, knobs) → a score → its three values, nan where a row has none"
    lines = [dict(row=row, seed=100 + i, knobs=knobs, method="", dataset="FCVG" if row == "1" else "LTV+FCVE", protocol="2") | {k: v[i] for k, v in of.items()}
             for (row, knobs), of in scores.items() for i in range(3)]
    folder.mkdir(exist_ok=True)
    pd.DataFrame(lines).to_csv(folder / "runs.csv", index=False)
    return folder


def test_other_scores_by_hand(tmp_path):
    "Gains 1, 2, 3: mean 2, deviation 1, t(.975, 2) = 4.3027, so 2 ± 4.3027/√3; a MAE stands only between rows that are read alike"
    nan = [np.nan]*3
    rows = {"3": dict(gender_f1=[90, 92, 91], auc_60=[80, 80, 80], mae_years=[9, 9, 9], agesub_f1=nan, conflict_rate=nan),
            "4a": dict(gender_f1=[91, 94, 94], auc_60=[80, 80, 80], mae_years=[8, 8.1, 7.9], agesub_f1=nan, conflict_rate=nan),
            "5": dict(gender_f1=[90, 92, 91], auc_60=[81, 81.1, 80.9], mae_years=[8, 8, 8], agesub_f1=[40]*3, conflict_rate=[3, 3, 3]),
            "6": dict(gender_f1=[89, 90.9, 90.1], auc_60=[81, 82, 83], mae_years=[7, 8, 9], agesub_f1=[40]*3, conflict_rate=[4, 4.1, 3.9])}
    t = sheet.other_table(three_seeds(tmp_path, {(r, "{}"): of for r, of in rows.items()})).set_index(["score", "contrast"])
    r = t.loc["gender_f1", "+MKD − base"]
    assert (r["difference"], r["sd"], r["n_seeds"], r["interval"], r["better"]) == (2, 1, 3, "holds 0", "higher")
    assert (r["low"], r["high"]) == pytest.approx((2 - 4.3027/3**.5, 2 + 4.3027/3**.5), abs=1e-4)
    r = t.loc["gender_f1", "+MKD+CH − base"]  # −1, −1.1, −0.9
    assert (r["difference"], r["high"], r["interval"]) == (-1, pytest.approx(-1 + .43027/3**.5, abs=1e-4), "below 0")
    assert r["paper"] == pytest.approx(98.42 - 97.13) and np.isnan(t.loc["auc_60", "+CH − base"]["paper"])
    assert t.loc["auc_60", "+CH − base"]["interval"] == "above 0" and t.loc["auc_60", "+MKD − base"]["interval"] == "holds 0"
    assert list(t.loc["mae_years"].index) == ["+MKD − base", "+MKD+CH − +CH"] and list(t.loc["conflict_rate"].index) == ["+MKD+CH − +CH"]
    assert t.loc["conflict_rate", "+MKD+CH − +CH"][["row", "against", "difference", "better"]].tolist() == ["6", "5", 1, "lower"]
    assert t.loc["mae_years", "+MKD − base"][["difference", "interval", "better"]].tolist() == [-1, "below 0", "lower"]
    assert set(t["block"]) == {"ECAPA-TDNN"} and not {"better", "worse", "no difference", "undecided"} & set(t["interval"])


def test_other_scores_on_a_page(tmp_path):
    score = {"3": [90, 92, 91], "5": [90, 91.9, 91.1], "6": [89, 90.9, 90.1]}
    folder = three_seeds(tmp_path, {(r, "{}"): dict(gender_f1=v) for r, v in (score | {"7": [90]*3, "10": [90]*3}).items()})
    t = sheet.other_table(folder)
    wide = sheet.others_in_columns(t)
    assert wide["contrast"].tolist() == ["+MKD+CH − base", "+CH − base", "+MKD+CH − +CH"] and set(wide["score"]) == {"gender macro F1 (higher is better)"}
    assert wide["ECAPA-TDNN"][0] == "-1.00 [-1.25, -0.75], below 0" and wide["ResNet"][0] == "+0.00 [+0.00, +0.00], holds 0" and pd.isna(wide["call centre"][0])
    told = sheet.others_text(t)
    assert told.startswith("In gender macro F1 +MKD+CH − base is -1.00 [-1.25, -0.75] (ECAPA-TDNN), +0.00 [+0.00, +0.00] (ResNet); the paper prints +1.3, +3.7. In")
    assert "In gender macro F1 +MKD+CH − +CH is -1.00 [-1.00, -1.00] (ECAPA-TDNN)" in told
    one = sheet.read(folder)
    one[one["seed"] == 100].to_csv(folder / "runs.csv", index=False)
    assert sheet.other_table(folder).empty and sheet.others_text(sheet.other_table(folder)) == ""


def test_known_voices_by_hand(tmp_path):
    "Own less fresh 10, 12, 14: 12 ± 2 · 4.3027/√3; 1, 0, −1 holds 0; of one seed there is a difference and no interval"
    split = {"utterance": '{"per_speaker": 20, "by": "utterance"}', "speaker": '{"per_speaker": 20}'}
    said = lambda own, fresh: dict(split_agesup_f1=own, agesup_f1=fresh)
    folder = three_seeds(tmp_path, {("1", split["utterance"]): said([80, 82, 84], [70, 70, 70]), ("3", split["utterance"]): said([71, 72, 73], [65, 66, 67]),
                                    ("1", split["speaker"]): said([68, 67, 66], [67, 67, 67]), ("3", split["speaker"]): said([69, 69.1, 68.9], [64, 64, 64])})
    t = sheet.leak_table(folder).set_index(["split_by", "row"])
    r = t.loc["utterance", "1"]
    assert (r["own"], r["fresh"], r["difference"], r["n_seeds"], r["interval"], r["role"]) == (82, 70, 12, 3, "above 0", "FCVG")
    assert (r["low"], r["high"]) == pytest.approx((12 - 2*4.3027/3**.5, 12 + 2*4.3027/3**.5), abs=2e-4)
    assert t.loc["speaker", "1"]["interval"] == "holds 0" and t.loc["utterance", "3"]["difference"] == 6
    table = sheet.regime_table(folder)
    assert table.loc[table["row"] == "1", "score"].tolist() == [82, 70, 67, 67] and "gain" not in table
    axes = sheet.figure_regime(table, tmp_path).axes
    assert len(axes) == 2 and axes[0].get_xticklabels()[0].get_text() == "base on FCVG"
    axes = sheet.figure_regime(table.assign(gain=[None, 4.]*4, low=[None, 1.5]*4, high=[None, 6.5]*4, paper=[None, 11.8]*4), tmp_path).axes
    assert len(axes) == 4 and axes[2].get_xticklabels()[1].get_text() == "base" and axes[3].get_ylabel() == ""
    own, fresh, paper = axes[3].collections
    assert own.get_segments()[1].tolist() == [[.8, 1.5], [.8, 6.5]] and fresh.get_segments()[1][0].tolist() == [1.2, 1.5]
    assert [round(v, 9) for v in paper.get_segments()[1].ravel()] == [.6, 11.8, 1.4, 11.8]
    told = sheet.leak_text(t.reset_index())
    assert "the teacher on FCVG (row 1) scores 82.0 on the split's own test set and 70.0 on fresh speakers, a difference of +12.0 [+7.0, +17.0] points." in told
    assert "it is +5.0 [+4.8, +5.2] (row 3) and +0.0 [-2.5, +2.5] (row 1). There 1 of 2 intervals leaves out 0: +5.0 [+4.8, +5.2] (row 3)." in told
    assert "prints 96.8 for row 1" in told and told.endswith("these records do not say.")
    one = sheet.read(folder)
    one[one["seed"] == 100].to_csv(folder / "runs.csv", index=False)
    alone = sheet.leak_table(folder)
    assert "low" not in alone and "a difference of +10.0 points" in sheet.leak_text(alone) and sheet.regime_text(sheet.regime_table(folder)) == ""


def test_the_regime_in_sentences():
    own, fresh = "the split's own", "fresh speakers"
    t = pd.DataFrame([("utterance", own, "3", 71.3, None, None), ("utterance", fresh, "3", 64.4, None, None), ("speaker", own, "3", 64.3, None, None),
                      ("speaker", fresh, "3", 64.2, None, None), ("utterance", own, "6", 68., -2.6, True)],
                     columns=["split_by", "tested", "row", "score", "gain", "excludes_paper"])
    told = sheet.regime_text(t)
    assert told == "1 of 1 intervals of gains leave out the paper's. So here neither way of dealing makes gains like the paper's."
    assert "neither" not in sheet.regime_text(t.assign(excludes_paper=False)) and sheet.regime_text(t[:4]) == ""
    more = pd.DataFrame([("speaker", own, "5", 67.8, 3.5, True), ("speaker", fresh, "5", 65., .8, True), ("utterance", fresh, "6", 65., 1.2, True)], columns=t.columns)
    both = pd.concat([t, more]).assign(low=-5., high=6.).reset_index(drop=True)
    assert sheet.regime_text(both).endswith("On the splits' own test sets the gains go from -2.6 [-5.0, +6.0] (row 6, dealt by utterance) to "
                                            "+3.5 [-5.0, +6.0] (row 5, dealt by speaker); on fresh speakers from +0.8 to +1.2.")
