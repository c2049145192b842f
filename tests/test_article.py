"""The article and the poster: values are what the records give, no digit is typed by hand, references are checked, the
PDF says what the records say, and the same records give the same bytes."""
import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from mkdcls.publish import article
from mkdcls.publish.named import PAPER, Values, minus, record_table
from mkdcls.publish.second import LINES_OF, SECOND_SHEETS, printed_second, second_files, sides_told
from mkdcls.publish.values import collect_values
from mkdcls.runs import PRESETS
from mkdcls.standin import STANDINS

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "paper" / "article"
RESULTS = ["abstract.typ", "conclusion.typ", *(p.name for p in sorted((SOURCES / "sections").glob("results_*.typ")))]  # no digit there
LIGHT = shutil.ignore_patterns("*.parquet", "*.png", "*.svg", "*.ipynb", "*.pdf", "article")


@pytest.fixture
def paper(tmp_path):
    "paper/ without pictures, pages and answers, to change something in"
    return Path(shutil.copytree(PAPER, tmp_path / "paper", ignore=LIGHT))


# ---- values

def test_values_are_what_the_records_give():
    assert (SOURCES / "values.json").read_text("utf-8") == collect_values().as_json(), "run `make paper` (and `make poster`)"


def test_every_value_says_where_it_comes_from():
    data = json.loads((SOURCES / "values.json").read_text("utf-8"))
    gone = {n: e["of"] for part in ("values", "tables") for n, e in data[part].items() if not (ROOT / e["of"]).exists()}
    assert not gone, f"read from files that are not there: {gone}"


def test_every_value_that_the_sources_name_is_there():
    data = json.loads((SOURCES / "values.json").read_text("utf-8"))
    wanted = {(p.name, n) for p in SOURCES.rglob("*.typ") for n in re.findall(r'\bv\("([^"]+)"\)', p.read_text("utf-8"))}
    assert len(wanted) > 100 and all("." in n or n in data["values"] for _, n in wanted)
    gone = sorted(w for w in wanted if w[1] not in data["values"] and not w[1].startswith("two."))
    assert not gone, f"no such value: {gone}"


def test_a_number_of_the_records_changes_the_value(paper):
    path = paper / "results" / "standin-laptop" / "gains.csv"
    t = record_table(path)
    t.loc[(t["row"] == "13") & t["primary"], ["gain", "high"]] = 4.44, 6.66
    t.to_csv(path, index=False)
    got = collect_values(paper).texts["one.standin.calls.span"]
    assert got["text"] == "+4.4 [+1.7, +6.7]" and got["of"] == "paper/results/standin-laptop/gains.csv"


def test_a_sentence_that_no_longer_follows_is_an_error(paper):
    path = paper / "results" / "standin-laptop" / "gains.csv"
    t = record_table(path)
    t.loc[t["row"] == "4a", "as_trained"] = 2.
    t.to_csv(path, index=False)
    with pytest.raises(ValueError, match="the article says that every row with MKD loses .* no longer follows"): collect_values(paper)


def test_a_name_stands_once():
    v = Values()
    v.put("a.csv", x__y="1")
    with pytest.raises(ValueError, match="x.y is given twice"): v.put("a.csv", x__y="2")
    with pytest.raises(ValueError, match="no text"): v.put("a.csv", z="")


@pytest.mark.parametrize("text,want", [("-1.2", "−1.2"), ("[-1, +2]", "[−1, +2]"), ("SE-ResNet-34", "SE-ResNet-34"),
                                       ("20-30", "20-30"), ("row -3", "row −3")])
def test_minus(text, want): assert minus(text) == want


def test_a_block_that_compares_nothing_is_marked():
    "Base of the call centre closes less than half of the gap; the rows of its block carry the mark, and no other"
    v = collect_values()
    assert v.texts["gap.calls.closed"]["text"] == "49.6 %" and float(v.texts["gap.resnet.closed"]["text"][:-2]) > 50
    marked = {r[0] for r in v.tables["table1.standin"]["rows"] if any("‡" in c for c in r)}
    assert marked == {"11", "12", "13"} and not any("‡" in c for r in v.tables["table1.real"]["rows"] for c in r)


def test_the_share_that_base_closes_follows_the_records(paper):
    path = paper / "results" / "standin-laptop" / "runs.csv"
    t = record_table(path)
    t.loc[t["row"] == "11", "true_agesup_f1"] += 5
    t.to_csv(path, index=False)
    with pytest.raises(ValueError, match="less than half of the gap on call-centre speech alone"): collect_values(paper)


def test_floors_without_trained_rows_make_their_sentence(paper):
    path = paper / "results" / "real-laptop" / "real.csv"
    assert not {"base", "mkd_ch"} & set(record_table(path)["row"]) or collect_values(paper).states["two.real.real"]
    assert collect_values(paper).texts["two.real.campplus.auc"]["text"] == "86.7 [81.8, 91.0]"
    t = record_table(path)
    t[t["row"] != "campplus"].to_csv(path, index=False)
    v = collect_values(paper)
    assert not v.states["two.real.floors"] and "two.real.campplus.auc" not in v.texts and v.states["two.real"]


# ---- protocol 2: what is not there says so, what is there is shown whatever its columns

FAMILY = """contrast,block,row,against,n_seeds,gain,low,high,sd,p,p_holm,word,paper,excludes_paper,seeds_needed
"+MKD+CH − base, ECAPA-TDNN",ECAPA-TDNN,6,3,20,1.44,0.81,2.04,1.2,0.01,0.0402,undecided,15.08,True,31
"+MKD+CH − base, ResNet",ResNet,10,7,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,14.83,True,
"+MKD+CH − base, call centre",call centre,13,11,20,3.12,2.41,3.63,1.1,0.0001,0.0002,better,10.47,True,
"+CH − base, ECAPA-TDNN",ECAPA-TDNN,5,3,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,11.81,True,
"+MKD − base, ECAPA-TDNN",ECAPA-TDNN,4a,3,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,-2.58,True,
"+MKD+CH − +CH, ECAPA-TDNN",ECAPA-TDNN,6,5,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,3.27,True,
"+CH − base, ResNet",ResNet,9,7,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,4.66,True,
"+MKD − base, ResNet",ResNet,8,7,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,0.05,False,
"+MKD+CH − +CH, ResNet",ResNet,10,9,20,0.12,-0.41,0.63,1.1,0.0001,0.0002,no difference,10.17,True,
"+MKD+CH − base, mean of the three blocks",all,,,20,1.5,1.1,1.9,1.1,0.0001,0.0002,better,13.46,True,
"""


def without_second(paper: Path) -> Path:
    "paper/ as it was before any sheet of protocol 2"
    for name in SECOND_SHEETS:
        for path in second_files(paper, name): path.unlink()
    return paper


def with_second(paper: Path) -> Path:
    "paper/ with two sheets of protocol 2 that nobody has run"
    folder = without_second(paper) / "results" / "standin-laptop"
    (folder / "decisive.csv").write_text(FAMILY, "utf-8")
    (folder / "decisive").mkdir(exist_ok=True)
    (folder / "decisive" / "runs.csv").write_text("row,seed\n1,100\n", "utf-8")
    (folder / "regime.csv").write_text("split,row,agesup_f1\nspeaker,3,50.2\nutterance,3,91.2\n", "utf-8")
    return paper


def test_what_has_not_been_run_says_so(paper):
    v = collect_values(without_second(paper))
    assert not v.states["two"] and not any(v.states[f"two.{n}"] for n in SECOND_SHEETS)
    assert "two.decisive.words" not in v.texts and not v.states["figure.decisive"]


def test_what_has_been_run_is_shown(paper):
    v = collect_values(with_second(paper))
    assert v.states["two.decisive"] and v.states["two.decisive.tables"] == ["two.decisive.decisive"] and v.states["figure.decisive"]
    assert v.texts["two.decisive.words"]["text"] == "7 no difference, 2 better, 1 undecided"
    assert v.texts["two.full.calls.span"]["text"] == "+3.1 [+2.4, +3.6]" and v.texts["two.excluded"]["text"] == "nine"
    t = v.tables["two.decisive.decisive"]
    assert t["rows"][0] == ["+MKD+CH − base, ECAPA-TDNN", "+15.1", "+1.4 [+0.8, +2.0]", "1.20", "20", "0.040", "undecided", "yes", "31"]


def test_a_table_of_another_shape_is_printed_by_its_columns(paper):
    "regime.csv has none of the columns that we know: shown as it is, and no sentence is built on it"
    v = collect_values(with_second(paper))
    assert v.tables["two.regime.regime"]["rows"] == [["speaker", "3", "50.20"], ["utterance", "3", "91.20"]]
    assert v.states["two.regime"] and not v.states["two.regime.regime"] and "regime" in LINES_OF


def test_less_than_the_whole_family_makes_no_sentence(paper):
    path = with_second(paper) / "results" / "standin-laptop" / "decisive.csv"
    path.write_text("".join(FAMILY.splitlines(keepends=True)[:3]), "utf-8")
    v = collect_values(paper)
    assert not v.states["two.decisive.decisive"] and len(v.tables["two.decisive.decisive"]["rows"]) == 2


def test_seeds_still_missing_and_weak_blocks_are_told(paper):
    "Before all seeds are there the contrasts are called preliminary; a base that closes too little marks its block"
    path = with_second(paper) / "results" / "standin-laptop" / "decisive.csv"
    path.write_text(FAMILY.replace(",20,", ",11,"), "utf-8")
    path.with_name("decisive-scores.csv").write_text("row,closed\n3,69\n7,58\n11,49.2\n", "utf-8")
    v = collect_values(paper)
    assert v.states["two.decisive.partial"] and v.texts["two.seeds"]["text"] == "eleven" and v.states["two.decisive.weak"]
    assert v.texts["two.full.calls.word"]["text"] == "better ‡" and v.texts["two.full.ecapa.word"]["text"] == "undecided"
    path.write_text(FAMILY, "utf-8")
    assert not collect_values(paper).states["two.decisive.partial"]


def test_remedies_under_conditions_are_left_out(paper):
    "A line with a condition compares a remedy with itself; one seed is not the best of five"
    lines = ["student,remedy,train_rho,condition,measure,value,difference,low,high,word,n_seeds"]
    for student in ("base", "+MKD+CH"):
        for remedy, lost, n in (("none", 45, 5), ("replay", 20, 5), ("irm", 3, 1)):
            more = ",,," if remedy == "none" else ("-25,-30,-20,better" if n > 1 else "-42,,,")
            lines += [f"{student},{remedy},{rho},,{m},{lost if m == 'lost' else 66},{more},{n}"
                      for rho in (0, .8) for m in ("lost", "at_0", "at_home", "turned", "untied")]
    lines.append("base,replay,0.8,noisy,lost,30,10,5,15,worse,3")
    (without_second(paper) / "results" / "standin-laptop" / "remedies.csv").write_text("\n".join(lines) + "\n", "utf-8")
    v = collect_values(paper)
    assert v.states["two.remedies.remedies"] and v.texts["two.remedy.base.asked"]["text"] == "counterfactual replay"
    assert v.texts["two.remedy.base.asked.turned"]["text"] == "66.0" and v.texts["two.remedy.seeds"]["text"] == "five"
    shown = [r[:3] for r in v.tables["two.remedies.remedies"]["rows"] if r[0] == "base"]
    assert shown == [["base", "no remedy", "45.0"], ["base", "counterfactual replay", "20.0 (−25.0 [−30.0, −20.0])"],
                     ["base", "IRM", "3.0 (−42.0)"]]


def test_one_student_and_one_curve_make_their_sentences(paper):
    "What has been run of remedies and doses is told, and what has not is not asked for"
    folder = with_second(paper) / "results" / "standin-laptop"
    lines = ["student,remedy,train_rho,condition,measure,value,difference,low,high,word,n_seeds"]
    for remedy in ("none", "replay"):
        more = ",,," if remedy == "none" else "-25,-30,-20,better"
        lines += [f"base,{remedy},{rho},,{m},20,{more},5" for rho in (0, .8) for m in ("lost", "at_0", "at_home", "turned", "untied")]
    (folder / "remedies.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "remedies-runs.csv").write_text("student,remedy,train_rho,condition,seed\nbase,none,0.8,,100\n", "utf-8")
    dose = "speakers,{},6,3,{},3,66,{},-1,2,.5,{}\n"
    (folder / "decisive-doses.csv").write_text("curve,level,row,against,train_utterances,n_seeds,score,gain,low,high,sd,change,change_low,change_high\n"
                                               + dose.format(1, 2880, .4, ",,") + dose.format(4, 11520, 1.1, ".7,-1,2.4"), "utf-8")
    v = collect_values(paper)
    assert v.states["two.remedy.base"] and not v.states.get("two.remedy.full") and v.states["two.remedies.partial"]
    assert v.texts["two.remedy.sofar"]["text"].startswith("So far trained: 1 of 180 runs with named remedies")
    assert v.states["two.dose.speakers"] and not v.states.get("two.dose.labels") and "two.dose.teacher.least" not in v.texts
    assert v.texts["two.dose.speakers.most"]["text"].startswith("+1.1") and v.texts["two.dose.speakers.most.level"]["text"] == "11,520"
    assert v.texts["two.dose.speakers.change"]["text"].startswith("+0.7 [")


def changed(path: Path, change) -> Path:
    "A csv with something changed in it"
    t = record_table(path)
    (t if (new := change(t)) is None else new).to_csv(path, index=False)
    return path


def test_intervals_clear_of_zero_and_words_without_correction(paper):
    "What the words leave open: sides of zero, and the word that a contrast would have as the only question"
    v = collect_values(with_second(paper))
    assert v.texts["two.family.signs"]["text"] == (
        "three lie above zero (+MKD+CH − base, ECAPA-TDNN; +MKD+CH − base, call centre; +MKD+CH − base, mean of the three "
        "blocks), and none lie below zero")
    assert v.texts["two.family.alone"]["text"].startswith(
        "Uncorrected, one more would have a word: +MKD+CH − base, ECAPA-TDNN (better); Holm's correction")
    path = paper / "results" / "standin-laptop" / "decisive.csv"
    path.write_text(FAMILY.replace("1.44,0.81,2.04", "-0.44,-0.81,0.0").replace("0.12,-0.41,0.63", "-.8,-1.1,-.4"), "utf-8")
    told = collect_values(paper).texts["two.family.signs"]["text"]
    assert "seven lie below zero" in told and "one ends at zero to two decimals (+MKD+CH − base, ECAPA" in told
    path.write_text(FAMILY.replace(",0.01,0.0402", ",0.2,0.4"), "utf-8")
    assert collect_values(paper).texts["two.family.alone"]["text"].startswith("Uncorrected, each")


def test_the_rule_on_weak_bases_tells_how_it_came_out(paper):
    path = with_second(paper) / "results" / "standin-laptop" / "decisive.csv"
    path.with_name("decisive-scores.csv").write_text("row,closed\n3,69\n7,58\n11,50.0\n", "utf-8")
    v = collect_values(paper)
    assert v.texts["two.closed.word"]["text"] == "and its block counts" and "‡" not in v.tables["two.decisive.decisive"]["caption"]
    path.with_name("decisive-scores.csv").write_text("row,closed\n3,69\n7,58\n11,49.9\n", "utf-8")
    v = collect_values(paper)
    assert v.texts["two.closed.word"]["text"].endswith("compares nothing") and "‡" in v.tables["two.decisive.decisive"]["caption"]


def test_gender_and_other_scores_are_told_where_all_blocks_are_there(paper):
    path = paper / "results" / "standin-laptop" / "decisive-others.csv"
    def gender(t, name="call centre"): return (t["score"] == "gender_f1") & (t["contrast"] == "+MKD+CH − base") & (t["block"] == name)
    def change(t): t.loc[gender(t), ["difference", "low", "high"]] = -4.4, -5.5, -1.04
    changed(path, change)
    v = collect_values(paper)
    assert v.texts["two.gender.full.spans"]["text"].endswith(" and −4.4 [−5.5, −1.0]") and v.states["two.others"]
    claim = v.tables["claims"]["rows"][2]
    assert claim[0] == "+MKD+CH improves gender (Table 1: +1.3, +3.7 and +1.8)" and "call centre −4.4" in claim[3]
    assert claim[4].endswith("beyond the margin: one")
    changed(path, lambda t: t[~gender(t)])
    v = collect_values(paper)
    assert "two.others" not in v.states and "two.gender.full.spans" not in v.texts
    assert v.tables["claims"]["rows"][2][1].startswith("Table 1, gender F1") and v.tables["claims"]["rows"][2][2] == "5"


def test_sides_of_zero():
    t = pd.DataFrame(dict(low=[.1, -.2, -3.], high=[.2, .1, -1.]))
    assert sides_told(t) == "one above zero and one below zero" and sides_told(t[:1]) == "all above zero"
    assert sides_told(t[1:2]) == "none clear of zero"


def test_leaks_need_the_teacher_and_base(paper):
    path = paper / "results" / "standin-laptop" / "regime-leak.csv"
    def change(t): t.loc[(t["row"] == "1") & (t["split_by"] == "utterance"), "difference"] = 33.33
    v = collect_values(changed(path, change).parents[2])
    assert v.texts["two.leak.teacher.utterance"]["text"].startswith("+33.3 [") and v.states["two.regime.regime-leak"]
    changed(path, lambda t: t[t["row"] != "1"])
    v = collect_values(paper)
    assert not v.states["two.regime.regime-leak"] and v.states["two.regime.regime"] and "two.leak.base.utterance" not in v.texts


def test_remedies_are_told_with_their_price_and_one_student_alone(paper):
    path = paper / "results" / "standin-laptop" / "remedies.csv"
    def change(t):
        t = t[t["student"] == "base"]
        more = t[(t["remedy"] == "none") & t["condition"].isna()].assign(student="+MKD+CH")
        return pd.concat([t, more])
    v = collect_values(changed(path, change).parents[2])
    told = v.texts["two.remedy.base.told"]["text"]
    assert "balanced weights 3.5 [−2.7, 9.7] (−11.8 [−13.9, −9.6] under the training condition)" in told
    assert v.states["two.remedy.base.balance"] and not v.states.get("two.remedy.full")
    assert v.texts["two.remedy.base.asked"]["text"] == "counterfactual replay and counterfactual matching"
    changed(path, lambda t: t[t["remedy"] != "match"])
    v = collect_values(paper)
    assert v.texts["two.remedy.base.asked"]["text"] == "counterfactual replay" and not v.states["two.remedy.base.several"]
    changed(path, lambda t: t[~t["remedy"].isin(("match", "replay"))])
    v = collect_values(paper)
    assert not v.states["two.remedies.remedies"] and "two.remedy.base.told" not in v.texts and v.tables["two.remedies.remedies"]["rows"]


def test_the_papers_own_shortcut_gets_its_sentence(paper):
    "From the records of Table 1's corpus, where there are two seeds with and without"
    runs = paper / "results" / "standin-laptop" / "remedies-runs.csv"
    def change(t):
        part = t[t["student"].eq("base") & t["remedy"].isin(("none", "line")) & t["train_rho"].isna() & t["condition"].isna()]
        old = part["remedy"].eq("line") * 12. + 50 + (part["seed"] % 2)*part["remedy"].eq("line")
        return pd.concat([t[t["train_rho"].notna()], part.assign(over_60_on_telephone=old)])
    v = collect_values(changed(runs, change).parents[2])
    assert v.states["two.shortcut"] and v.texts["two.shortcut.none"]["text"] == "50" and not v.states.get("two.shortcut.codec")
    assert v.texts["two.shortcut.gain"]["text"].startswith("+12.4 [")
    v = collect_values(changed(runs, lambda t: t[~t["remedy"].eq("line")]).parents[2])
    assert not v.states.get("two.shortcut")


def test_trained_rows_of_real_speech_get_their_sentence(paper):
    path = paper / "results" / "real-laptop" / "real-contrasts.csv"
    changed(path, lambda t: t[t["row"].isin(("campplus", "fbank", "dvector"))])
    assert "two.real.asked" not in collect_values(paper).states
    def change(t): return pd.concat([t, t[(t["row"] == "campplus") & t["declared"]].assign(row="mkd_ch", title="the full method")])
    v = collect_values(changed(path, change).parents[2])
    assert v.states["two.real.asked"] and v.texts["two.real.asked.told"]["text"].startswith("the full method against language")
    told = v.texts["two.real.asked.told"]["text"]
    assert told.count("; ") == 0 and told.count(" and ") >= 2 and ", years " in told, "one contrast, both scores, both divisions"
    assert "two.real.alone" not in v.texts and not v.states.get("two.real.alone")
    def alone(t):
        pairs = (("alone_of_campplus", "base", 1.25), ("mkd_ch_of_campplus", "base_of_campplus", -2.5))
        return pd.concat([t, *(t[(t["row"] == "mkd_ch")].assign(row=a, against=b, gain=g, low=g - 1, high=g + 1) for a, b, g in pairs)])
    v = collect_values(changed(path, alone).parents[2])
    assert v.states["two.real.alone"] and v.texts["two.real.alone"]["text"] == "+1.2 [+0.2, +2.2]"
    assert v.texts["two.real.beside.blocked"]["text"] == "−2.5 [−3.5, −1.5]" and not v.states.get("two.real.split")
    def split(t):
        pairs = (("ch_of_campplus", "base_of_campplus", 1.5), ("mkd_ch_of_campplus", "ch_of_campplus", -.5), ("base_balance", "base", -3.5))
        return pd.concat([t, *(t[(t["row"] == "mkd_ch")].assign(row=a, against=b, gain=g, low=g - 1, high=g + 1, status="any") for a, b, g in pairs)])
    v = collect_values(changed(path, split).parents[2])
    assert v.states["two.real.split"] and v.texts["two.real.beside.ch"]["text"] == "+1.5 [+0.5, +2.5] (any) and +1.5 [+0.5, +2.5] (any)"
    assert v.texts["two.real.beside.mkd"]["text"].startswith("−0.5 [−1.5, +0.5] (any)") and v.states["two.real.remedies"]
    assert v.texts["two.real.remedies.told"]["text"].startswith("base, language and corpus balanced over ages −3.5 [−4.5, −2.5] (any) and")


def test_corpora_are_the_generators():
    "Settings and shares of age groups as the generator has them"
    rows = {r[0]: r[1:] for r in collect_values().tables["corpora"]["rows"]}
    assert set(rows) == set(STANDINS)
    for name, (speakers, ages, shares, line, noise, slips, second) in rows.items():
        s = STANDINS[name]
        assert speakers == f"{PRESETS['laptop'].speakers[name]:,}" and ages == f"{s.decades[0]}-{s.decades[-1] + 9}"
        assert 99 <= sum(int(x.strip(" %")) for x in shares.split(",")) <= 101 and line == s.channel
        assert (slips, second) == (f"{100 * s.label_noise:.0f} %", f"{100 * s.p_overlay:.0f} %")
        assert (noise == "none") == (s.channel == "studio")
    assert rows["call centre"][2] == "38 %, 50 %, 12 %"


def test_a_network_at_chance_is_no_evidence_of_an_order(paper):
    v = collect_values()
    path = paper / "results" / "standin-laptop" / "imu_elevoc-claims.csv"
    def change(t): t.loc[t["claim"] == "squeeze-excitation on Res2Net", "coin"] = 1
    w = collect_values(changed(path, change).parents[2])
    assert int(w.texts["verify.printed"]["text"]) == int(v.texts["verify.printed"]["text"]) - 1
    assert (v.texts["verify.with"]["text"], w.texts["verify.with"]["text"]) == ("two", "one")


def test_losses_as_trained_have_intervals(paper):
    "Student's t over five seeds of protocol 1: of six rows none lies beyond the margin"
    v = collect_values()
    assert v.texts["mkd.below"]["text"] == "four" and v.texts["mkd.clear"]["text"] == "none"
    path = paper / "results" / "standin-laptop" / "runs.csv"
    def change(t): t.loc[t["row"] == "4b", "as_trained_agesup_f1"] -= 1
    assert collect_values(changed(path, change).parents[2]).texts["mkd.clear"]["text"] == "one"


@pytest.mark.parametrize("name,change,sentence", [
    ("interventions.csv", lambda t: t.loc[(t["under"] == "overlay") & (t["row"] == "6") & (t["against"] == "base"), "high"].index,
     "a second voice moves \\+MKD\\+CH further"),
    ("table1.csv", lambda t: t.loc[t["row"] == "3"].index, "base on real speech is close to chance")])
def test_sentences_on_drift_and_chance_are_asked_for(paper, name, change, sentence):
    folder = "real-laptop" if name == "table1.csv" else "standin-laptop"
    path = paper / "results" / folder / name
    def more(t): t.loc[change(t), "agesup_f1" if name == "table1.csv" else "high"] = 55.
    changed(path, more)
    with pytest.raises(ValueError, match=sentence): collect_values(paper)


def test_rows_have_plain_names():
    "No name of a row that only the records know, in the tables of ablations and of scores"
    v = collect_values()
    codes = {"subce", "subasl", "5r", "3r", "dep_literal", "kmix"}
    assert not codes & {c for r in v.tables["ablations"]["rows"] for c in r}
    if "two.decisive.decisive-scores" in v.tables:
        rows = v.tables["two.decisive.decisive-scores"]["rows"]
        assert not any("-" in r[0] for r in rows) and {r[1] for r in rows} == {"ECAPA", "ResNet"}


def test_f1_of_one_class_is_told_as_the_share_recognised(paper):
    "All of FCVE is over sixty: 52 of 53 recognised is an F1 of 99.05, and a share of 98 per cent"
    path = paper / "results" / "standin-laptop" / "runs.csv"
    t = record_table(path)
    t.loc[t["FCVE_agesup_f1"].notna(), "FCVE_agesup_f1"] = 100 * 2 * 52 / (52 + 53)
    t.to_csv(path, index=False)
    assert collect_values(paper).texts["fcve.least"]["text"] == "98 %"


def test_numbers_name_a_contrast_too(tmp_path):
    (tmp_path / "dose.csv").write_text("speakers,share,gain,low,high,n_seeds\n2880,0.1,1,-1,3,3\n11520,0.4,0,-1,1,3\n", "utf-8")
    head, rows = printed_second(tmp_path / "dose.csv")
    assert head == ["speakers", "share", "gain, 95 % interval", "seeds"] and rows[1] == ["11520", "0.4", "+0.0 [−1.0, +1.0]", "3"]


# ---- no digit typed by hand

def typed_digits(text: str) -> list[str]:
    "Lines of a Typst source with a digit outside values, comments, imports, labels and names of tables and files"
    text = re.sub(r"(?m)^\s*#import .*$|//.*$", "", text)
    text = re.sub(r'\b(?:v|has|names)\([^()]*\)', "", text)
    text = re.sub(r'\b(?:fig|tab|raw)\("[^"]*"', "", text)
    text = re.sub(r"(?:size|gutter|width|columns): [^,)]*", "", text)
    text = re.sub(r"@[\w-]+|<[\w-]+>", "", text)
    return [l.strip() for l in text.splitlines() if re.search(r"\d", l)]


@pytest.mark.parametrize("name", RESULTS)
def test_no_digit_is_typed_where_results_are_told(name):
    found = typed_digits((SOURCES / "sections" / name).read_text("utf-8"))
    assert not found, f"{name}: read it from values.json with #v(...): {found}"


@pytest.mark.parametrize("text,seen", [
    ('The gain is 3.2 points.', True), ('The gain is #v("one.standin.6.span") points.', False), ("over 5 seeds", True),
    ('#v("a.b") and 20 others', True), ('#tab("table1.standin", [In 14 rows], size: 7pt)', True),
    ('#tab("table1.standin", [All rows], size: 7pt, gutter: 8pt)', False), ('#import "../template.typ": *', False),
    ('as @baeg2023 and <app-2> say // 7 of them', False), ("$lambda = 0.7$", True)])
def test_typed_digits_are_seen(text, seen): assert bool(typed_digits(text)) is seen


def test_no_sentence_swallows_its_semicolon():
    "After `#name` or `#v(...)` Typst takes a semicolon for its own"
    found = [m[0] for p in SOURCES.rglob("*.typ") for m in re.finditer(r"#(?:[a-z]+|v\([^)]*\));.{0,30}", p.read_text("utf-8"))]
    assert not found, found


# ---- references

def entries() -> dict[str, dict[str, str]]:
    "Key → fields of references.bib"
    text = (SOURCES / "references.bib").read_text("utf-8")
    return {key: dict(re.findall(r"(?m)^\s+(\w+) = \{(.*)\},?$", body)) | {"kind": kind}
            for kind, key, body in re.findall(r"(?ms)^@(\w+)\{([\w-]+),\n(.*?)^\}", text)}


def test_references_were_checked():
    "A DOI or a reason for none, where it was seen, a title; a preprint's DOI is that of its number; none stands twice"
    found = entries()
    assert len(found) == (SOURCES / "references.bib").read_text("utf-8").count("\n@") > 20
    for key, e in found.items():
        assert e.get("title") and e.get("seen"), f"{key}: no title, or not said where it was checked"
        assert ("doi" in e) != ("nodoi" in e), f"{key}: a DOI, or a reason for none"
        if "doi" in e: assert re.fullmatch(r"10\.\d{4,5}/\S+", e["doi"]), f"{key}: {e['doi']} is no DOI"
        if "eprint" in e: assert e["doi"] == f"10.48550/arXiv.{e['eprint']}", f"{key}: another preprint's DOI"
    dois = [e["doi"].lower() for e in found.values() if "doi" in e]
    assert len(set(dois)) == len(dois)


def test_what_is_cited_is_listed_and_what_is_listed_is_cited():
    text = "\n".join(p.read_text("utf-8") for p in SOURCES.rglob("*.typ"))
    cited = {k for k in re.findall(r"@([a-z][\w-]*)", text) if not re.match(r"(?:fig|tab|eq|sec|app)-", k)}
    assert cited == set(entries())


# ---- the PDFs

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "Laid out and typeset twice, from scratch: folder, and the PDFs of the first and of the second time"
    pytest.importorskip("typst", reason="typst is not installed: the article cannot be typeset (extra `paper`)")
    pytest.importorskip("pypdf", reason="pypdf is not installed: the PDF cannot be read (extra `paper`)")
    folders = [article.lay_out(tmp_path_factory.mktemp("article")) for _ in range(2)]
    return folders[0], [{what: article.typeset(f, what) for what in article.PDF_OF} for f in folders]


def words(pdf: bytes) -> str:
    "A PDF's text without spaces and hyphens, where lines may break"
    import io
    import pypdf
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages]
    return squeezed("".join(re.sub(r"\s\d+\s*$", "", text) for text in pages))  # a sentence goes on over a page's number


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u00ad‐-]+", "", text).replace("ﬁ", "fi").replace("ﬀ", "ff").replace("ﬂ", "fl").replace("ﬃ", "ffi")


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(built):
    _, (first, second) = built
    for what in article.PDF_OF: assert first[what] == second[what], f"{what}: typeset twice, two PDFs"


@pytest.mark.slow
def test_the_pdf_says_what_the_records_say(built):
    "Every value that the sections of results name, and every cell of Table 1, is read in the article's pages"
    folder, (pdfs, _) = built
    data, text = json.loads((folder / "values.json").read_text("utf-8")), words(pdfs["article"])
    named = {n for name in RESULTS if "poster" not in name
             for n in re.findall(r'\bv\("([^"]+)"\)', (SOURCES / "sections" / name).read_text("utf-8"))
             if name != "results_two.typ" or n.startswith("two.")}  # without records that section names nothing else
    wanted = {data["values"][n]["text"] for n in named if n in data["values"]}
    wanted |= {c for t in ("table1.standin", "table1.real", "verification") for r in data["tables"][t]["rows"] for c in r if c}
    gone = sorted(w for w in wanted if squeezed(w) not in text)
    assert len(wanted) > 150 and not gone, f"not in the PDF: {gone}"


@pytest.mark.slow
@pytest.mark.parametrize("what", article.PDF_OF)
def test_the_committed_pdf_is_of_these_records(built, what):
    path = ROOT / article.PDF_OF[what]
    assert path.stat().st_size < 1_500_000, "too heavy to be committed"
    assert words(path.read_bytes()) == words(built[1][0][what]), f"run `make {'paper' if what == 'article' else 'poster'}`"


@pytest.mark.slow
def test_size_of_the_pdfs(built):
    "The article is some ten pages of A4, the poster one of A1"
    import io
    import pypdf
    pages = {what: pypdf.PdfReader(io.BytesIO(pdf)).pages for what, pdf in built[1][0].items()}
    mm = [[round(float(x) / 72 * 25.4) for x in (p.mediabox.width, p.mediabox.height)] for p in (*pages["article"], *pages["poster"])]
    assert 8 <= len(pages["article"]) <= 22 and len(pages["poster"]) == 1
    assert mm == [[210, 297]] * len(pages["article"]) + [[594, 841]]


@pytest.mark.slow
def test_protocol_2_is_typeset(built, paper, tmp_path):
    "Records that arrive later appear in text, table and picture without a change of the sources"
    folder = article.lay_out(tmp_path / "laid", with_second(paper))
    text = words(article.typeset(folder, "article"))
    assert squeezed("the words are: 7 no difference, 2 better, 1 undecided.") in text
    assert squeezed("+1.5 [+1.1, +1.9] on average (better)") in text and (folder / "figures" / "decisive.svg").exists()
    assert squeezed("Not run yet. The records of remedies are not there") in text
    assert squeezed("+1.5 [+1.1, +1.9] points on average") in words(article.typeset(folder, "poster"))


@pytest.mark.slow
def test_nothing_of_protocol_2_is_typeset_too(built, paper, tmp_path):
    folder = article.lay_out(tmp_path / "laid", without_second(paper))
    assert squeezed("None of the sheets of protocol 2 has been run") in words(article.typeset(folder, "article"))
    assert squeezed("The primary contrasts of protocol 2 have not been run") in words(article.typeset(folder, "poster"))


def test_without_typst_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(SystemExit, match="typst is not installed: it comes with the extra `paper`"): article.main("article")


def test_unknown_document(capsys):
    assert article.main("slides") == 2 and "'slides' is none of article, poster" in capsys.readouterr().err


# ---- cards

CARDS = ("data_card.md", "reproducibility.md")


@pytest.mark.parametrize("name", CARDS)
def test_links_of_the_cards_lead_somewhere(name):
    text = (PAPER / name).read_text("utf-8")
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith("http")]
    dead = [t for t in targets if not (PAPER / t).exists()]
    assert targets and not dead, dead


def test_every_line_of_the_checklist_has_evidence():
    lines = [l for l in (PAPER / "reproducibility.md").read_text("utf-8").splitlines() if l.startswith("| ") and " --- " not in l]
    bare = [l for l in lines if "](" not in l and not re.match(r"\| item \||\| [^|]+ \| no\b", l)]
    assert len(lines) > 25 and not bare, f"no link, and no no: {bare}"


def test_data_card_agrees_with_the_generator():
    text, said = (PAPER / "data_card.md").read_text("utf-8"), {}
    for l in text.splitlines():
        cells = [c.strip() for c in l.split("|")[1:-1]]
        if cells and cells[0] in STANDINS: said[cells[0]] = cells[1:]
    assert set(said) == set(STANDINS)
    for name, (speakers, ages, line, noise, overlay) in said.items():
        s = STANDINS[name]
        assert speakers == f"{PRESETS['laptop'].speakers[name]:,}" and ages == f"{s.decades[0]}-{s.decades[-1] + 9}"
        assert (line, noise, overlay) == (s.channel, f"{100 * s.label_noise:.0f} %", f"{100 * s.p_overlay:.0f} %")
