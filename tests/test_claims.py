"""The table of claims: every word follows from a file; what was not run is said so; too few seeds decide nothing."""
import pandas as pd
import pytest

from mkdcls.engine.claims import claims


def gains(status="undecided", **more):
    one = dict(task="agesup", scope="pooled", gain=1.25, low=-.5, high=3., as_trained=-2., status=status) | more
    return pd.DataFrame([one | dict(row=r) for r in ("4a", "5", "6", "8", "9", "10", "12", "13")])


def interventions(n_seeds, tv=.3, gain=4.):
    base = dict(under=None, train_rho=None, test_rho=None, adjacent=None, scope=None, task="agesup", against=None, n_seeds=n_seeds, low=0., high=0.)
    lines = [base | dict(sheet="effects", row=r, under="channel", measure="tv", value=tv, low=tv - .05 if tv else 0., high=tv + .05 if tv else 0.) for r in ("3", "6")]
    lines += [base | dict(sheet="rho", row="6", train_rho=.8, test_rho=t, measure="f1", against="base", value=gain, low=gain - 1, high=gain + 1) for t in (-.8, .8)]
    lines += [base | dict(sheet="label_noise", row="6", under="adjacent", adjacent=a, scope="LTV", measure="f1", against="base", value=-gain, low=-gain - 1,
                          high=-gain + 1) for a in (.1, .4)]
    return pd.DataFrame(lines)


def test_nothing_run(tmp_path):
    table = claims(tmp_path).set_index("claim")
    told = table[table["status"] != "not run"]
    assert len(table) == 13 and len(told) == 2 and told["status"].str.contains("does not hold").all(), "only what needs no run is told"


def test_words_follow_the_files(tmp_path):
    gains().to_csv(tmp_path / "gains.csv", index=False)
    table = claims(tmp_path).set_index("claim")
    assert table.loc["+MKD+CH improves agesup on every corpus (Table 1)", "status"] == "undecided"
    assert table.loc["+MKD+CH improves agesup on every corpus (Table 1)", "result"].count("+1.2 [-0.5, +3.0], as trained -2.0") == 3
    for n, moved, rho, noise in ((5, "does not hold", "better", "worse"), (1, "undecided", "undecided", "undecided")):
        interventions(n).to_csv(tmp_path / "interventions.csv", index=False)
        s = claims(tmp_path).set_index("claim")["status"]
        assert s[s.index.str.startswith("Z is causal")].item() == moved and s[s.index.str.startswith("Causal learning")].item() == rho
        assert s[s.index.str.startswith("Mixup makes")].item() == noise
    interventions(5, tv=0.).to_csv(tmp_path / "interventions.csv", index=False)
    s = claims(tmp_path).set_index("claim")["status"]
    assert s[s.index.str.startswith("Z is causal")].item() == "holds"


def test_ablation_lines(tmp_path):
    sheet = [dict(question=q, row=r, what=r, against="x", gain=-2., low=-3., high=-1.5, conflict_rate=c, status="worse")
             for q, r, c in (("teacher", "random", None), ("dependency", "5r", 3.), ("dependency", "dep_constant", 5.), ("asymmetry", "subasl", 5.))]
    pd.DataFrame(sheet).to_csv(tmp_path / "ablations.csv", index=False)
    table = claims(tmp_path)
    at = lambda words: table[table["claim"].str.contains(words, regex=False)].iloc[0]
    assert at("teacher's knowledge")["status"] == "worse" and at("teacher's knowledge")["result"] == "random -2.0 [-3.0, -1.5]"
    assert at("punishes conflicts")["result"] == "3.0 % with, 5.0 % without" and at("punishes conflicts")["status"] == "fewer conflicts"
    assert at("Y_agesub informs")["status"] == "worse, not run"


def test_smoke_is_no_evidence(tmp_path):
    pd.DataFrame([dict(row="3", preset="smoke")]).to_csv(tmp_path / "table1.csv", index=False)
    with pytest.raises(ValueError, match="no evidence"): claims(tmp_path)
