"""The front page: another machine's numbers appear when they are there, floors and intervals are what they are called, reading times are counted."""
import json
import re
from itertools import product

import pandas as pd
import pytest

from mkdcls.results import front


def test_another_machine_is_told_when_it_was_measured(tmp_path):
    path = tmp_path / "arithmetic.csv"
    assert front.other_machine(path) == "", "left out while there is nothing"
    lines = [(a, r, e, "base", f, None, 95.) for r, e, fs in (("3", "ecapa", (66., 66.)), ("7", "resnet", (54., 58.5))) for a, f in zip(("native", "lowest"), fs)]
    pd.DataFrame(lines, columns=front.ARITHMETIC_COLUMNS).to_csv(path, index=False)
    told = front.other_machine(path)
    assert told.startswith("## The same seed on another machine")
    assert "Rows 3, 7 of Table 1 were trained with the same seed on two machines" in told and "under 1 arithmetic (" in told
    assert "ECAPA-TDNN rows by up to 0.0 points; ResNet rows by up to 4.5 points" in told
    assert "| 7 | ResNet | base | 54.0 to 58.5 |  | 95.0 |" in told and "| 3 | ECAPA-TDNN | base | 66.0 |  | 95.0 |" in told
    assert "The gain of" not in told, "base alone has none"
    short = front.machines_in_short(path)
    assert "0.0 (ECAPA-TDNN) and 4.5 (ResNet) points" in short and front.machines_in_short(tmp_path / "none") == ""
    told, t = front.other_machine(), pd.read_csv(front.ARITHMETIC, dtype={"row": str})
    f1 = t.pivot(index="arithmetic", columns="row", values="agesup_f1")
    for more, base in (("6", "3"), ("10", "7")):
        gain = f1[more] - f1[base]
        assert f"row {more} over row {base} goes from {gain.min():+.1f} to {gain.max():+.1f}, a standard deviation of {gain.std():.1f}" in told
    reach = t.groupby("row")[["agesup_f1", "agesup_f1_as_trained"]].agg(lambda v: v.max() - v.min())
    assert f"ECAPA-TDNN rows by up to {reach.loc[['3', '6']].max().max():.1f} points; ResNet rows by up to {reach.loc[['7', '10']].max().max():.1f}" in told
    path.write_text("row\n3\n")
    with pytest.raises(ValueError, match="has no column arithmetic"): front.other_machine(path)


def test_the_regime_is_told_when_it_was_run(tmp_path):
    assert front.regime_in_short(tmp_path) == ""
    lines = [(by, who, row, f) for row, fs in (("1", (80.2, 68., 67., 67.6)), ("3", (90.6, 41.2, 52.4, 50.)), ("6", (99., 99., 99., 99.)))
             for (by, who), f in zip(product(("utterance", "speaker"), ("the split's own", "fresh speakers")), fs)]
    pd.DataFrame(lines, columns=["split_by", "tested", "row", "score"]).to_csv(tmp_path / "regime.csv", index=False)
    assert "if utterances are dealt, base scores 91 and 41 on the split's own test set and on new speakers (on FCVG 80 and 68)" in front.regime_in_short(tmp_path)
    assert "if speakers are dealt, 52 and 50 (67 and 68) ([measured]" in front.regime_in_short(tmp_path)


def test_protocol_2_appears_when_it_was_run(tmp_path):
    "Nothing, then how far it is, then, from half of the seeds on, its table in place of the first protocol's"
    from mkdcls.decisive import PRIMARY
    there = front.RESULTS / "standin-laptop"
    found = {"stand-in": tmp_path}
    for name in ("gains.csv", "runs.csv", "regime.csv", "ablations.csv", "predictions.parquet"): (tmp_path / name).symlink_to(there / name)
    assert front.decides({}) == front.decides(found) == "" and front.second_protocol(found) is None
    line = dict(contrast="+MKD+CH − base, ResNet", row="10", n_seeds=9, gain=2.04, low=1.1, high=3., word="better", seeds_needed=None, paper=14.83, excludes_paper=True)
    def write(n): pd.DataFrame([line | dict(n_seeds=n), line | dict(contrast="+CH − base, ResNet", n_seeds=n)]).to_csv(tmp_path / "decisive.csv", index=False)
    write(9)
    (tmp_path / "decisive").mkdir()
    runs = pd.DataFrame([dict(row=r, seed=s, protocol="2", knobs="{}", true_agesup_f1=60., method="", dataset="LTV+FCVE") for r in PRIMARY for s in range(100, 109)])
    runs.to_csv(tmp_path / "decisive" / "runs.csv", index=False)
    pd.DataFrame([dict(role="LTV+FCVE", seed=100, agesup_f1=70., true_agesup_f1=75.)]).to_csv(tmp_path / "decisive" / "ceilings.csv", index=False)
    told = front.decides(found)
    assert "so far 9 of 20 seeds of the rows of Table 1, 0 of 10 seeds of the controls and 0 of 8 doses have been run" in told and "![" not in told
    assert front.second_protocol(found) is None, "fewer than half of the seeds"
    write(13)
    table = front.report.as_markdown(front.first_table(found | {"real speech": front.RESULTS / "real-laptop"}))
    assert "| ResNet, LTV+FCVE | +14.8 | +2.0 [+1.1, +3.0] | better; excludes the paper's gain |" in table and "stand-in, 13 seeds" in table
    assert "+CH − base" not in table.replace("+MKD+CH − base", "") and "over 13 of the 20 seeds of [protocol 2]" in front.how_to_read(found)
    assert "re-estimated on unmixed speech. " in front.how_to_read(found) and "(until all are run, words are a preview)" in front.how_to_read(found)
    scored = runs.assign(as_trained_agesup_f1=runs["row"].map({"6": 58., "10": 57.5, "13": 61.}).fillna(60.))
    scored.to_csv(tmp_path / "decisive" / "runs.csv", index=False)
    assert "unmixed speech; as trained, the gains are -2.0, -2.5, +1.0. " in front.how_to_read(found), "what re-estimation hides is told"
    assert "trained): +0.7, +3.2, +3.9." in front.how_to_read(found) and "As trained" not in front.cautions(found)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "doses.svg").write_text("<svg/>")
    assert "![Gains against " in front.pictures(found) and "help" not in front.pictures(found) and front.pictures({}) == ""
    (tmp_path / "decisive-doses.csv").write_text("curve,n_seeds\nspeakers,3\n")
    (tmp_path / "decisive-controls.csv").write_text("n_seeds\n10\n3\n")
    assert "*Above: when it helps. Below: what K is worth. 3 to 10 seeds, 95 % intervals." in front.pictures(found)
    kinds = lambda *words: "\n".join(["contrast,word,n_seeds", *(f'"K {k} − none, row {r}",{w},3' for r in ("4a", "6") for k, w in zip(("untrained", "causes"), words))])
    for words, told in ((("undecided", "better"), True), (("better", "better"), False), (("undecided", "undecided"), False)):
        (tmp_path / "decisive-controls.csv").write_text(kinds(*words))
        assert ("Only true causes that the heads can read in Z gain more than the margin.*" in front.pictures(found)) == told
    write(20)
    assert "preview" not in front.how_to_read(found) and "Student's t over the 20 seeds of [protocol 2]" in front.how_to_read(found)


def test_a_run_counts_once():
    import pandas as pd
    t = pd.DataFrame(dict(row=["3", "3", "oracle", "4"], key=["a", "a", None, "b"], total_s=[1., 1., None, 2.]))
    assert front.once_each(t)["total_s"].sum() == 3 and len(front.once_each(t.drop(columns="key"))) == 4


def test_what_would_have_helped_is_told_once_it_was_run(tmp_path):
    found, cells = {"stand-in": tmp_path}, ["student,remedy,train_rho,condition,measure,value,difference,n_seeds"]
    assert front.remedies_in_short({}) == front.remedies_in_short(found) == ""
    for remedy, home, turned, n in (("none", 70.6, 26, 5), ("replay", 62, 65.2, 5), ("match", 64, 63, 4)):
        cells += [f"base,{remedy},{rho},,{m},{v},{d},{n}" for rho in (0, .8)
                  for m, v, d in (("lost", home - turned, ""), ("at_0", 66, -.42), ("at_home", home, -8.6), ("turned", turned, ""), ("untied", 64, -1))]
    (tmp_path / "remedies.csv").write_text("\n".join(cells) + "\n")
    told = front.remedies_in_short(found)
    assert "1 has been tried: trained where" in told
    assert "base falls from 71 to 26 points when that is turned round; with *replay* it scores 62, and 65 turned round (5 seeds" in told


def test_the_ten_questions_and_the_other_task(tmp_path):
    "Nothing before the records are there; then the paper's gain, ours, the word and the seeds it would take"
    found = {"stand-in": tmp_path}
    assert front.declared_family({}) == front.declared_family(found) == "Not run yet."
    assert front.other_scores(found) == front.gender_in_short(tmp_path) == ""
    (tmp_path / "decisive.csv").write_text(
        "contrast,row,n_seeds,gain,low,high,word,paper,excludes_paper,seeds_needed\n"
        "+MKD+CH − base,6,10,.47,0,.94,undecided,15.08,True,15\n+CH − base,5,10,-.03,-.5,.4,no difference,.1,False,\n")
    (tmp_path / "decisive").symlink_to(front.RESULTS / "standin-laptop" / "decisive")
    told = front.declared_family(found)
    assert "| +MKD+CH − base | +15.1 | +0.5 [+0.0, +0.9] | 10 | undecided (even odds of *no difference* with 15 seeds) | yes |" in told
    assert "| +CH − base | +0.1 | +0.0 [-0.5, +0.4] | 10 | no difference | no |" in told
    assert "nothing corrects for looking early" in told
    table = (tmp_path / "decisive.csv").read_text()
    (tmp_path / "decisive.csv").write_text(table.replace("6,10,.47,0,", "6,20,.47,-.004,").replace("5,10,-.03", "5,20,-.03"))
    told = front.declared_family(found)
    assert "+0.5 [-0.0, +0.9]" in told, "an end that rounds to 0 says on which side it lies"
    assert "nothing corrects" not in told and "The plan does not change" in told, "controls are missing, no seed of the family"
    (tmp_path / "decisive-others.csv").write_text(
        "score,contrast,block,row,against,n_seeds,difference,low,high,sd,interval,better,paper\n" + "".join(
            f"{s},+MKD+CH − base,{b},6,3,10,{d},{d - .25},{d + .25},.3,below 0,higher,{p}\n" for s, b, d, p in
            (("gender_f1", "ECAPA-TDNN", -.5, 1.25), ("gender_f1", "ResNet", -1.25, 3.75), ("auc_60", "ResNet", -1, ""))))
    with open(tmp_path / "decisive-others.csv", "a") as f:
        f.write("agesup_f1,+CH − base,call centre,12,11,10,.9,.2,1.6,.3,above 0,higher,10.14\n")
    assert "| +CH − base, call centre | +10.1 | +0.9 [+0.2, +1.6] | 10 | not of the ten | yes |" in front.declared_family(found)
    assert front.gender_in_short(tmp_path) == "Gender: +MKD+CH − base is -1.2 to -0.5 (all intervals below 0), the paper's +1.2 to +3.8."
    assert "prints +1.2, +3.8 for" in front.other_scores(found) and "-0.50 [-0.75, -0.25], below 0" in front.other_scores(found)


def test_what_a_public_encoder_is_worth(tmp_path):
    "In Z, and to a student that only learns from it; nothing before each of these rows has been run"
    from mkdcls.results.real_sheet import worth_in_words
    assert worth_in_words(tmp_path) == ""
    rows = dict(language=72, base=55, base_of_campplus=83, mkd_ch_of_campplus=85, campplus=87)
    lines = [f"speaker,all,{r},{v}" for r, v in rows.items()]
    (tmp_path / "real.csv").write_text("\n".join(["folds,heard,row,auc", *lines]) + "\n")
    assert worth_in_words(tmp_path) == "", "the student alone is missing"
    lines += ["speaker,all,alone_of_campplus,56.4", "language,all,base,99", "speaker,Common Voice,base,98"]
    (tmp_path / "real.csv").write_text("\n".join(["folds,heard,row,auc", *lines]) + "\n")
    told = worth_in_words(tmp_path)
    assert "base finds real speakers over 60 with an AUC of 83, +MKD+CH 85, a linear head on K 87 (language alone 72)" in told, "K's work is K's"
    assert "asked without K, a student that learnt from it has 56, base 55 (50 is chance)" in told


def test_each_equation_has_its_page_and_code():
    "The function named for an equation lies in the module that the page exports, and says which equation it is"
    import importlib
    told = front.equations()
    for number, _, page, function in front.EQUATIONS:
        module = front.module_of(front.page_path(page))
        f = getattr(importlib.import_module(module.removesuffix(".py").replace("/", ".")), function)
        assert f"Eq. {number}" in f.__doc__ and f"[{page}](method/{page}.ipynb) | [{module}](../{module}), `{function}` |" in told
    assert [n for n, *_ in front.EQUATIONS] == list("12345") and "results/table1.ipynb" in told


def test_minutes_agree_and_an_hour_is_an_hour():
    "Five seeds on two cores, and the same summed over rows; two pages that fit an hour"
    runs = pd.read_csv(STANDIN / "runs.csv")
    cores, rows = front.minutes_of_all(STANDIN)
    assert rows == round(runs["total_s"].sum() / 60) and front.minutes("table1", STANDIN) < cores < rows
    assert f"the {rows} minutes come to {cores}" in front.shown_table1("stand-in", STANDIN) and f"{cores} minutes on two cores" in front.larger(front.results())
    told = front.where_to_go()
    assert sum(front.reading_minutes(front.page_path(p)) for p in front.HOUR) <= 60
    assert all(f"[{p}](method/{p}.ipynb)" in told for p in (*front.HOUR, "13c_arrows"))


def test_a_page_says_how_long_it_takes():
    "The first number of minutes on a page is the counted one, within a tenth or three minutes"
    wrong = {}
    for page in [p for folder in front.FOLDERS for p in front.pages(folder)]:
        told, counted = int(re.search(r"(\d+) minutes", page.read_text("utf-8"))[1]), front.reading_minutes(page)
        if abs(told - counted) > max(3, .1 * counted): wrong[page.stem] = (told, counted)
    assert not wrong, f"page: (minutes it tells, minutes counted): {wrong}"


def test_intervals_of_five_seeds_are_not_what_they_promise():
    assert .80 < front.coverage(1, 0, sheets=600) < .88 and front.coverage(0, 1, sheets=600) > .97


def test_floors_differ_between_corpora():
    found = front.results()
    floors = {who: front.floors(f, 20).set_index("tested on").loc["LTV+FCVE"] for who, f in found.items()}
    assert abs(floors["stand-in"]["an even draw"] - 33) < 1 and floors["real speech"]["an even draw"] < 28
    assert 28 < floors["real speech"]["one answer for all"] < 29 and 31 <= floors["real speech"]["base's answers permuted"] <= 33


def test_reading_time(tmp_path):
    cells = [dict(cell_type="markdown", source=["w " * 360]), dict(cell_type="code", source=["x = 1\n"] * 24),
             dict(cell_type="code", source=["#| hide\n"] + ["y\n"] * 99)]
    (tmp_path / "a.ipynb").write_text(json.dumps(dict(cells=cells)))
    assert front.reading_minutes(tmp_path / "a.ipynb") == 4


# ---- what came out: each number that a results page says in words is recomputed from the committed records

STANDIN, REAL = front.PROJECT / "paper/results/standin-laptop", front.PROJECT / "paper/results/real-laptop"


def said(sheet, *wanted):
    "The page in nbs/results and every executed copy of it say these words"
    pages = [front.PROJECT / f"nbs/results/{sheet}.ipynb", *(p for f in (STANDIN, REAL) if (p := f / f"{sheet}.ipynb").exists())]
    for page in pages:
        text = "\n".join("".join(c["source"]) for c in json.loads(page.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown")
        for words in wanted: assert words in text, f"{page.parent.name}/{page.name} does not say: {words}"


def one(table, column="value", **where):
    for c, v in where.items(): table = table[table[c] == v]
    assert len(table) == 1, where
    return table[column].item()


def whole(table): return (table["low"] > 0) | (table["high"] < 0)


def test_said_of_table1():
    g = {f: pd.read_csv(f / "gains.csv", dtype={"row": str}).query("primary").set_index("row") for f in (STANDIN, REAL)}
    gain = g[STANDIN]["gain"]
    said("table1", f"gains {gain['6']:.1f} points in agesup over base with the ECAPA-TDNN, {gain['10']:.1f} with the ResNet and {gain['13']:.1f} at the call centre")
    assert g[STANDIN]["paper_gain"].between(9.5, 15.5).all() and list(g[STANDIN]["low"] > 1) == [False, False, True] and not (g[REAL]["low"] > 1).any()
    assert set(pd.read_csv(REAL / "gains.csv")["status"]) == {"undecided"}


def test_said_of_ablations():
    t = pd.read_csv(STANDIN / "ablations.csv")
    assert set(t.loc[t["status"] == "better", "question"]) == {"fair_calls"} and set(t.loc[t["status"] == "worse", "row"]) == {"dep_literal"}
    assert set(t["status"]) == {"better", "worse", "undecided"}
    resnet = t[t["question"] == "fair_resnet"]
    assert whole(resnet).all() and resnet["low"].item() < .5
    literal = one(t, "gain", question="dependency", row="dep_literal")
    said("ablations", f"re-estimated base at the call centre (+{one(t, 'gain', question='fair_calls', row='13'):.1f} points)", f"({literal:.0f} points)",
         f"(+{resnet['gain'].item():.1f} points), whose interval just leaves out 0")
    runs = pd.read_csv(STANDIN / "ablations/runs.csv")
    more = (runs["agesup_f1"] - runs["as_trained_agesup_f1"]).groupby(runs["row"]).mean()
    assert more[["3r", "5r"]].round(1).between(.3, .5).all() and more[["4a", "6"]].between(3.45, 4.2).all()
    seven = runs.query("row == '7r'").set_index("seed").eval("agesup_f1 - as_trained_agesup_f1").round(1)
    assert seven[0] == 5.4 and (seven[1:].min(), seven[1:].max()) == (-.2, .9)
    five = more[runs.groupby("row")["seed"].nunique() >= 5].round(1)
    assert (five["dep_shifted"], five["subasl"], five["second"], five["mix5"]) == (-.5, .9, -.4, 10.2)
    said("ablations", "adds 0.3 and 0.5 points", "about 3.5 and 4.1", "from -0.5 to +0.9 (unmixed)", "from -0.4 to +10.2 (mixed)", "gains 5.4 points by it on seed 0",
         "between -0.2 and +0.9 on the other four")
    left = [f"{one(t, 'gain', question=q, row=r):+.1f}" for q, r in (("fair_ecapa", "6"), ("fair_resnet", "10"), ("fair_calls", "13"))]
    page = (front.PROJECT / "nbs/method/11_training.ipynb").read_text("utf-8")
    assert f"{left[0]}, {left[1]} and {left[2]} points are left for the whole method" in page
    table = t.set_index(["question", "row"])
    constant = table.xs("dep_constant", level="row").iloc[0]  # has the very answers of the row it is compared with
    assert constant["as_trained"] == 0 and constant["true_gain"] == 0


def test_said_of_interventions():
    from mkdcls.results.intervention_sheet import ROWS, read
    t = read(STANDIN)
    t = t[t["task"] == "agesup"]
    of_rows = t[t["row"].isin(ROWS)]
    effects = of_rows.query("sheet == 'effects'")
    line = effects.query("under == 'channel' and measure == 'tv' and against == ''").set_index("method")["value"]
    older = effects.query("under == 'channel' and measure == 'move' and against == ''")
    assert (older["low"] > 0).all() and len(older) == 4 and line.idxmax() == "+CH" and line[["+MKD", "+MKD+CH"]].round(1).eq(.3).all()
    ageing = effects.query("under == 'age 25 to 65' and measure == 'move' and against == ''")
    assert ageing["value"].round(1).eq(.9).all() and ageing["should"].round(1).eq(1.6).all()
    said("interventions", f"about 0.3, against {line['base']:.2f} for base), +CH moves most ({line['+CH']:.2f})", "move about 0.9 groups where the oracle moves 1.6")

    falls = t.query("sheet == 'rho' and measure == 'fall_f1' and row != 'oracle'")
    tied, beyond, untied = (falls.query(f"train_rho == {rho} and against == '{a}'") for rho, a in ((.8, ""), (.8, "base"), (0., "")))
    assert tied["value"].round(-1).isin((40, 50)).all() and len(tied) == 6 and set(untied.loc[whole(untied), "method"]) == {"back-door"}
    assert set(beyond.loc[beyond["low"] > 0, "method"]) == {"+MKD"} and not (beyond["high"] < 0).any()
    said("interventions", "Trained at ρ = 0.8, all rows lose 40 to 50 points", "but the back-door row loses")

    noise = of_rows.query("sheet == 'label_noise' and scope == 'LTV' and under == 'adjacent'")
    lost = noise.query("measure == 'fall_f1'")
    assert lost.query("against == ''")["value"].round().between(9, 10).all() and not whole(lost.query("against == 'base'")).any()
    above = noise.query("measure == 'f1' and against == 'base'")
    few, many = (above[above["wrong_labels"] == w] for w in (above["wrong_labels"].min(), above["wrong_labels"].max()))
    assert (few["low"] > 0).any() and not whole(many).any() and round(above["wrong_labels"].max() / 100, 1) == .2
    said("interventions", "a fifth of wrong age groups costs every row 9 to 10 points")

    k = t.query("sheet == 'refuters' and measure == 'drop_f1'")
    cost = k[k["under"] == "K: anybody"].set_index("method")["value"]
    assert not whole(k[k["under"] == "K: same class"]).any()
    said("interventions", f"costs +MKD {cost['+MKD']:.1f} points of agesup and +MKD+CH {cost['+MKD+CH']:.1f}")


def test_said_of_attributions():
    t = pd.read_csv(STANDIN / "attributions.csv", dtype={"row": str})
    asked = {"gender": "gender", "agesup": "age", "agesub": "age"}
    own = t[t["measure"] == "truth_share_" + t["task"].map(asked).fillna("")]
    nothing = t[t["row"].isna() & t["measure"].str.startswith("truth_share_")]["value"]
    mean = own.groupby([own["task"].map(asked), "attribution"])["value"].mean()
    best = own.loc[own["value"].idxmax()]
    for cause in ("gender", "age"):
        assert set(mean[cause].drop("integrated_gradients, K held").nlargest(2).index) == {"integrated_gradients", "kernel_shap"}
    assert .28 < best["value"] < .3, "only a little better than chance"
    said("attributions", f"at most {best['value']:.2f} of the weight", f"reaches {nothing.min():.2f} to {nothing.max():.2f}")


def test_said_of_sensitivity():
    t = pd.read_csv(STANDIN / "sensitivity.csv").set_index("spread")
    g = t["gain"]
    assert not whole(t).any() and set(t["n_seeds"]) == {3}
    said("sensitivity", f"the gain is {g[.5]:+.1f} points at half the spread, {g[1.]:+.1f} at the spread itself and {g[1.5]:+.1f} at one and a half times")


def test_said_of_the_speaker_sheets():
    eer = {(f, s): pd.read_csv(f / f"{s}.csv").set_index("row")["eer"] for f in (STANDIN, REAL) for s in ("seo_kim", "imu_elevoc")}
    sk, real, imu = eer[STANDIN, "seo_kim"], eer[REAL, "seo_kim"], eer[STANDIN, "imu_elevoc"]
    c = pd.read_csv(STANDIN / "seo_kim-claims.csv").set_index(["better", "worse"])
    steps = c.loc[[("sk-SAP", "sk-GAP"), ("sk-MLA-GAP", "sk-GAP")]]
    assert (steps["high"] < -1).all() and not (c["low"] > 1).any()
    assert f"{real['sk-GAP']:.1f}" == f"{real['sk-MLA-SAP-FR-DLN']:.1f}"
    said("seo_kim", f"(GAP) has {sk['sk-GAP']:.1f} % EER, the whole proposal {sk['sk-MLA-SAP-FR-DLN']:.1f} %", f"both ends of Table 3 have {real['sk-GAP']:.1f} %")

    lines = pd.read_csv(STANDIN / "imu_elevoc.csv").set_index("row")
    c = pd.read_csv(STANDIN / "imu_elevoc-claims.csv").set_index(["better", "worse"])
    assert lines.loc["ti-ECAPA-TDNN", "paper_eer"] > lines.loc["ti-SE-Res2Net-50", "paper_eer"] and (lines["coin_seeds"] > 0).any()
    for role in ("ti", "td"):
        net = f"{role}-SE-Res2Net-50"
        assert c.loc[(f"{net}-mse", net), "high"] < 0 and not whole(c.loc[[(f"{net}-cos", net)]]).any()
    said("imu_elevoc", f"ECAPA-TDNN has an EER of {imu['ti-ECAPA-TDNN']:.1f} % and SE-Res2Net-50 one of {imu['ti-SE-Res2Net-50']:.1f} %",
         f"saves {c.loc[('td-SE-Res2Net-50', 'td-SE-Res2Net-50-head'), 'eer_gain']:.1f} points against training only pooling and embedding")
