"""The table of claims: every word follows from a file; what was not run is said so; too few seeds decide nothing."""
import re
from pathlib import Path

import pandas as pd
import pytest
from test_ablations import Invented

from mkdcls.ablations import ablation_rows
from mkdcls.dependency import dependency_loss
from mkdcls.results import report
from mkdcls.results.claims import claims, papers, sizes, verification_in_short
from mkdcls.results.intervention_sheet import PAIRED
from mkdcls.runs import PRESETS


def at(table, words): return table[table["claim"].str.contains(words, regex=False)].iloc[0]


def gains(status):
    one = dict(task="agesup", scope="pooled", gain=1.25, low=-.5, high=3., as_trained=-2., status=status)
    return pd.DataFrame([one | dict(row=r) for r in ("4a", "5", "6", "8", "9", "10", "12", "13")])


def interventions(n_seeds, move=.3, gain=4., dealt=.2):
    base = dict(under=None, train_rho=None, test_rho=None, adjacent=None, scope=None, task="agesup", against=None, n_seeds=n_seeds)
    span = lambda v, half=1.: dict(value=v, low=v - half, high=v + half)
    lines = [base | dict(sheet="effects", row=r, under="channel", measure="move") | span(move, .05) for r in ("3", "6")]
    lines += [base | dict(sheet="rho", row="6", train_rho=.8, test_rho=t, measure="f1", against="base") | span(gain) for t in (-.8, .8)]
    lines += [base | dict(sheet="label_noise", row="4a", under="adjacent", adjacent=a, scope="LTV", measure="f1", against="base", wrong_labels=50 * a + 3) | span(v)
              for a, v in ((0., 0.), (.2, gain / 2), (.4, gain))]
    lines += [base | dict(sheet="refuters", row=r, under=u, measure="cka", task=None) | span(v, .1)
              for r in ("4a", "6") for u, v in ((PAIRED[0], .6), (PAIRED[2], .2 if r == "4a" else dealt))]
    lines += [base | dict(sheet="label_noise", row="4a", under="adjacent", adjacent=.4, scope="LTV", measure="fall_f1", against="base") | span(-gain, 1.5)]
    return pd.DataFrame(lines)


def test_nothing_run(tmp_path):
    table = claims(tmp_path)
    told = table[table["verdict"] != "not run"]
    assert len(table) == 15 and len(told) == 2 and told["verdict"].str.startswith("does not hold").all(), "only what needs no run is told"
    assert list(table.index[:2]) == list(told.index), "what was not run comes last"


@pytest.mark.parametrize("status,word", [("undecided", "undecided"), ("same direction", "speaks for it"), ("opposite", "speaks against it"),
                                         ("no difference", "speaks against it (no difference)")])
def test_table1_words(tmp_path, status, word):
    gains(status).to_csv(tmp_path / "gains.csv", index=False)
    line = at(claims(tmp_path), "+MKD+CH improves")
    assert line["verdict"] == word and line["result"].count("+1.2 [-0.5, +3.0], as trained -2.0") == 3


def test_intervention_words(tmp_path):
    words = ("The answer does not depend on the recording line", "Causal learning", "Mixup-based")
    for n, more, want in ((5, {}, ("speaks against it", "speaks for it", "speaks for it")), (1, {}, ("undecided (1 seed)",) * 3),
                          (5, dict(move=0., gain=-4.), ("undecided", "speaks against it", "speaks against it")), (5, dict(gain=1.), (None, "undecided", "undecided"))):
        interventions(n, **more).to_csv(tmp_path / "interventions.csv", index=False)
        table = claims(tmp_path)
        assert all(w is None or at(table, c)["verdict"] == w for c, w in zip(words, want)), (n, more, table)


def test_whether_x_and_k_are_independent_is_read_from_the_runs(tmp_path):
    for dealt, word in ((.2, "does not hold"), (.55, "+MKD: does not hold; +MKD+CH: undecided")):
        interventions(1, dealt=dealt).to_csv(tmp_path / "interventions.csv", index=False)
        line = at(claims(tmp_path), "X and K are independent")
        assert line["verdict"] == word and "+MKD CKA 0.60 on own pairs, 0.10 to 0.30 on dealt ones" in line["result"]


def test_ablation_words(tmp_path):
    right = {"4a": .95, "random": .6, "features": .6, "reversed": .9, "5r": .99, "subasl": .7, "subce": .7, "6": .6, "bd": .6}
    for seeds, word in ((5, "speaks for it"), (2, "undecided (2 seeds)")):
        runner = Invented(right, dict.fromkeys(ablation_rows(PRESETS["laptop"]), seeds))
        report.publish([(runner, [(r, s) for s in range(seeds) for r in runner.rows])], tmp_path / "ablations")
        table = claims(tmp_path)
        assert at(table, "teacher's knowledge")["verdict"] == word
        assert at(table, "Y_agesub informs")["verdict"] == word.replace("for", "against")
        fewer = at(table, "dependency loss")
        share = report.read(tmp_path / "ablations")[0].groupby("row")["conflict_rate"].mean()
        assert fewer["verdict"] == word and fewer["result"].startswith(f"{share['5r']:.1f} % with it, {share['subasl']:.1f} % without")


def test_lines_of_one_seed_are_marked():
    "Of the committed results: how many seeds each claim rests on, or that it rests on code"
    from mkdcls.results.front import RESULTS
    table = claims(RESULTS / "standin-laptop").set_index("claim")["seeds"]
    assert dict(table.value_counts()) == {"5": 11, "1": 2, "code": 1, "code and 5": 1}
    for words in ("wrong labels", "gives robustness (section 1)"): assert table[table.index.str.contains(words, regex=False)].eq("1").any()


def test_smoke_is_no_evidence(tmp_path):
    pd.DataFrame([dict(row="3", preset="smoke")]).to_csv(tmp_path / "table1.csv", index=False)
    with pytest.raises(ValueError, match="no evidence"): claims(tmp_path)


@pytest.mark.parametrize("low,high,word", [(-.5, .5, "no more than base"), (2., 8., "more than base"), (-8., -2., "less than base"),
                                           (-1.5, 2., "undecided against base"), (.5, .9, "no more than base")])
def test_kept_is_told_beside_base(tmp_path, low, high, word):
    "A student that keeps as much as base does has kept nothing by MKD; the word follows the interval, not the point"
    f1 = (("1", 80.), ("2", 80.), ("3", 60.), ("7", 60.), ("4a", 61.), ("8", 61.))
    pd.DataFrame([dict(row=r, preset="laptop", agesup_f1=v) for r, v in f1]).to_csv(tmp_path / "table1.csv", index=False)
    gains("undecided").assign(low=low, high=high).to_csv(tmp_path / "gains.csv", index=False)
    line = at(claims(tmp_path), "keeps a substantial part")
    assert line["verdict"] == word and "ECAPA 76 % of it (paper 70 %), base 75 % (+1.2 [" in line["result"]
    gains("undecided").assign(low=low, high=high, n_seeds=3).to_csv(tmp_path / "gains.csv", index=False)
    assert at(claims(tmp_path), "keeps a substantial part")["verdict"] == "undecided (3 seeds)"


@pytest.mark.parametrize("losses,values", [((1.5, 2.), (-1., -1.5, -3., -2.)), ((-1.5, -2.), (-1., 1.5, -3., 2.)), ((.5, .5), (-1., -.5, -.25, -.5))])
def test_what_eq5_as_printed_rewards(losses, values):
    "No contradiction, then one with the decade wrong, both, the group wrong: the lowest value is what training seeks. Losses below 0 are Eq. 4 as printed"
    import torch
    from torch.nn.functional import one_hot
    y_sub, y_sup = torch.full((4,), 2), torch.full((4,), 1)  # 40s, group 40-50
    sub, sup = one_hot(torch.tensor([1, 1, 1, 2]), 5).float(), one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    with pytest.warns(UserWarning, match="rewards conflicts"):
        got = dependency_loss(*(torch.full((4,), l) for l in losses), sub, sup, y_sub, y_sup, kind="literal", reduction="none")
    assert got.tolist() == list(values)
    # losses of .5: even the printed sign punishes, which is why the claim says "as a rule"
    assert "as a rule (where the product of its losses exceeds 1)" in claims("nowhere").set_index("claim").loc["Eq. 5 is a punishment", "result"]
    clear = "with losses below 0 (Eq. 4 as printed too) it punishes a contradiction with one head wrong and, as a rule, rewards one with both wrong"
    assert clear in claims("nowhere").set_index("claim").loc["Eq. 5 is a punishment", "result"]


def test_sizes_are_counted():
    "No number of parameters is written down here"
    told = sizes()
    assert re.search(r"5,9\d\d,\d{3} parameters \(baseline", told["seo_kim"]) and re.search(r"within 0\.\d % of print.*\b2 of 7 as printed", told["imu_elevoc"])
    source = Path(claims.__code__.co_filename).read_text("utf-8")
    assert not re.search(r"\d,\d{3},\d{3}|within \d", source)


def test_every_table_is_listed(tmp_path):
    "Seven tables of two papers and one of the main one; words are counted from the files, and what is not there is said to be not run"
    empty = papers({"stand-in": tmp_path})
    assert list(empty["table"]) == ["1", "1, 2", "3", "4", "1", "2", "3"] and empty["status"].str.contains("not run at this size yet").sum() == 6
    claims = [("feature recalibration", "sk-MLA-SAP"), ("the whole proposal against the baseline", "sk-GAP"), ("the whole proposal against LDE", "sk-LDE")]
    pd.DataFrame([dict(claim=c, worse=w, n_seeds=3, status="undecided") for c, w in claims]).to_csv(tmp_path / "seo_kim-claims.csv", index=False)
    pd.DataFrame([dict(row="a", seed=s, total_s=t, device=d) for s in (0, 1) for t, d in ((120., "AMD EPYC, 2 threads"), (360., "AMD EPYC, 1 threads"))]
                 ).to_csv(tmp_path / "seo_kim-runs.csv", index=False)
    full = papers({"stand-in": tmp_path}).set_index(["paper", "table"])
    assert full.loc[("Seo & Kim", "3"), "status"] == "stand-in, 3 seed(s): 2 undecided" and full.loc[("Seo & Kim", "4"), "status"] == "stand-in, 3 seed(s): 1 undecided"
    assert full.loc[("Seo & Kim", "3"), "minutes, one seed"] == "5", "two minutes with both cores, six with one of them"
    pd.DataFrame([dict(claim="deeper: SE-ResNet-101 against 34", worse="ti-SE-ResNet-34", n_seeds=1, status="undecided")]).to_csv(
        tmp_path / "imu_elevoc-claims.csv", index=False)
    part = papers({"real speech": tmp_path}).set_index(["paper", "table"])["status"]
    assert part["IMU&Elevoc", "1"].endswith("real speech, 1 seed(s): 1 undecided") and part["IMU&Elevoc", "2"] == "real speech: not run"


def test_rows_side_by_side_are_those_of_the_sheets(tmp_path):
    "Each corpus has its column; a row that was not run leaves its line empty, the paper's figures stand once"
    folders = {who: tmp_path / who for who in ("stand-in", "real speech")}
    for k, f in enumerate(folders.values()):
        f.mkdir()
        pd.DataFrame([dict(row=r, paper_eer=p, eer=v + k, eer_low=v - 1, eer_high=v + 2) for r, p, v in (("sk-GAP", 6.85, 12.), ("sk-MLA-SAP-FR-DLN", 4.95, 15.))]
                     ).to_csv(f / "seo_kim.csv", index=False)
    t = verification_in_short(folders)
    assert len(t) == 4 and list(t.columns) == ["EER % of", "paper", "stand-in", "real speech"]
    assert list(t.iloc[0][1:]) == ["6.85, 4.95", "12.0 [11.0, 14.0], 15.0 [14.0, 17.0]", "13.0 [11.0, 14.0], 16.0 [14.0, 17.0]"]
    assert (t.iloc[1:, 1:] == "").all(axis=None)
