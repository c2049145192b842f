"""Back-door over K, prototypes, the reversed hierarchy: killed and resumed equals undisturbed; what must not change a key does not."""
from dataclasses import replace

import pytest
import torch

from mkdcls.ablations import ablation_rows
from mkdcls.results.runner import Runner
from mkdcls.engine.store import digest
from mkdcls.intervention import BackDoor, Prototypes, Reversed, model_class
from mkdcls.runs import LATER, PRESETS, Knobs, identity, role_manifest, table1_rows


class Killed(Exception): pass


@pytest.mark.parametrize("row", ["bd", "pr", "reversed", "3pre"])
def test_resumed_equals_undisturbed(tmp_path, monkeypatch, row):
    rows = ablation_rows(PRESETS["smoke"])
    def run(where, progress=lambda what, done, of: None):
        monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path / where))
        return Runner("smoke", device="cpu", rows=rows, progress=progress)
    whole = run("whole").run(row, 0)
    def kill(what, done, of):
        if what.endswith(f"row {row}") and done == of - 1: raise Killed
    with pytest.raises(Killed): run("killed", kill).run(row, 0)
    assert run("killed").run(row, 0)["metrics"] == whole["metrics"]


def test_headline_model_is_the_one_that_answered(tmp_path, monkeypatch):
    "Runner.trained gives back the weights and statistics behind the recorded answers"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    runner = Runner("smoke", device="cpu", rows=ablation_rows(PRESETS["smoke"]))
    for row, kind in (("bd", BackDoor), ("pr", Prototypes), ("reversed", Reversed), ("3", None)):
        record = runner.run(row, 0)
        model, corpus = runner.trained(row, 0), runner.data("LTV+FCVE", 0)
        assert kind is None or type(model) is kind
        test = torch.from_numpy((corpus.manifest["split"] == "test").to_numpy().nonzero()[0])
        with torch.no_grad(): out = model(*corpus.features.batch(test))
        kept = runner.store.predictions(row, 0, record["key"])
        torch.testing.assert_close(out.logits["agesup"], torch.tensor(kept.filter(regex="^agesup_logit").to_numpy()), rtol=1e-3, atol=1e-3)


def test_off_switches_leave_the_key():
    "A switch younger than a record must not void it: off, it is not in the identity"
    for r in table1_rows().values():
        ident = identity(r, 0, "data", {})
        assert not set(LATER) & set(ident["recipe"]) and "mkdcls.intervention" not in ident["code"]
        for name, on in dict(context="prototypes", init=1, trained=False, reestimate=True).items():
            assert digest(identity(replace(r, **{name: on}), 0, "data", {})) != digest(ident)


def test_knobs_deal_no_new_split():
    plain = role_manifest("LTV+FCVE", PRESETS["smoke"], 3)[0]
    for knobs in (Knobs(adjacent=.4), Knobs(overlay_label=1.), Knobs(spread=1.5)):
        m = role_manifest("LTV+FCVE", PRESETS["smoke"], 3, knobs=knobs)[0]
        assert (m["split"] == plain["split"]).all() and (m["utterance"] == plain["utterance"]).all() and (m["true_agesub"] == plain["true_agesub"]).all()
    half = role_manifest("LTV+FCVE", PRESETS["smoke"], 3, knobs=Knobs(spread=.5))[0]
    assert half["hnr_db"].std() < plain["hnr_db"].std() and (half["f0_st"] == plain["f0_st"]).all()


def test_one_door_refuses():
    with pytest.raises(ValueError, match="choose one of"): model_class("front-door")
