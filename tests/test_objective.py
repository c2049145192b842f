"""Page 10: Eq. 3 by hand, each term once, gradients to the student and never to the teacher."""
import math

import pytest
import torch
from torch.testing import assert_close

from mkdcls.encoders import EncoderOutput, encoder
from mkdcls.model import MultiTaskModel, Output
from mkdcls.objective import Objective, task_loss, terms

FULL = Objective(age_loss="asl", dist="cos", dep="corrected")


def toy(sub=(0.,) * 5, sup=(0.,) * 3, gender=(0., 0.), x=(1., 0.), k=(0., 2.)):
    logits = {n: torch.tensor([v]).requires_grad_() for n, v in dict(agesub=sub, gender=gender, agesup=sup).items()}
    return Output(logits, {}, torch.zeros(1, 4), *(EncoderOutput(torch.tensor([v]), torch.tensor([v])) for v in (x, k)))


Y = {t: torch.tensor([0]) for t in ("gender", "agesup", "agesub")}


def ledger(o=FULL, out=None): return terms(out or toy(), Y, o, torch.nn.Identity())


def test_by_hand():
    "Even scores: ln 2, ln 3 and ln 5, and Eq. 4's small price of two and of four wrong classes; a right angle costs 1, weighed 0.25"
    wrong = lambda p: (p - .05)**4 * -math.log(1 - (p - .05))
    want = dict(gender=math.log(2), agesup=math.log(3) + 2 * wrong(1 / 3), agesub=math.log(5) + 4 * wrong(1 / 5), dist=.25, dep=0.)
    got = {n: v.item() for n, v in ledger().items()}
    assert got == pytest.approx(want | {"total": sum(want.values())}, abs=2e-6)


def test_smoothed_ce_by_hand():
    "Scores (ln 3, 0), smoothing 0.1: p = 3/4, 1/4; the target is 0.95, 0.05"
    got = task_loss("gender", torch.tensor([[math.log(3), 0.]]), torch.tensor([0]), Objective())
    assert got.item() == pytest.approx(-.95 * math.log(.75) - .05 * math.log(.25), abs=1e-6) and got.shape == (1,)


def test_gender_has_cross_entropy_in_every_row():
    torch.manual_seed(0)
    z, y = torch.randn(7, 2), torch.randint(2, (7,))
    assert all(torch.equal(task_loss("gender", z, y, o), task_loss("gender", z, y, Objective())) for o in (FULL, Objective(age_loss="asl_official")))


@pytest.mark.parametrize("o,want", [(Objective(), {"gender", "agesup", "agesub"}), (Objective(dist="mse"), {"gender", "agesup", "agesub", "dist"}),
                                    (FULL, {"gender", "agesup", "agesub", "dist", "dep"})])
def test_a_term_is_there_where_it_is_asked_for(o, want):
    got = ledger(o)
    assert set(got) == want | {"total"}
    assert_close(got["total"], sum(v for n, v in got.items() if n != "total"), rtol=0, atol=0)


def test_weight_multiplies_the_distance_alone():
    a, b = ledger(), ledger(Objective(age_loss="asl", dist="cos", dep="corrected", dist_weight=.75))
    assert b["dist"].item() == pytest.approx(.75) and all(torch.equal(a[t], b[t]) for t in a if t not in ("dist", "total"))


def test_a_contradiction_costs_the_wrong_heads_loss_less_one():
    got = ledger(out=toy(sub=(0., 0., 0., 0., 3.)))
    assert_close(got["dep"], got["agesub"] - 1, rtol=0, atol=1e-6)


def test_gradients_reach_the_student_and_never_the_teacher():
    torch.manual_seed(0)
    student, teacher = (encoder("ecapa", s, scale_name="smoke") for s in ("student", "teacher"))
    model = MultiTaskModel(student, ("gender", "agesup", "agesub"), teacher).train()
    x, n = torch.randn(4, 60, 80), torch.tensor([60, 50, 40, 60])
    y = {"gender": torch.tensor([0, 1, 0, 1]), "agesub": torch.tensor([0, 2, 4, 1]), "agesup": torch.tensor([0, 1, 2, 0])}
    terms(model(x, n), y, FULL, model.adapter)["total"].backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.count_nonzero()}
    assert not [m for m in moved if m.startswith(("teacher", "adapter"))]
    assert all(p.requires_grad is False for p in model.teacher.parameters())
    for part in ("student", "heads.gender", "heads.agesup", "heads.agesub"): assert any(m.startswith(part) for m in moved), part


def test_the_distance_alone_reaches_the_student_only():
    torch.manual_seed(0)
    student, teacher = (encoder("ecapa", s, scale_name="smoke") for s in ("student", "teacher"))
    model = MultiTaskModel(student, ("gender",), teacher).train()
    out = model(torch.randn(3, 60, 80), torch.tensor([60, 60, 60]))
    terms(out, {"gender": torch.tensor([0, 1, 0])}, Objective(dist="cos"), model.adapter)["dist"].backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.count_nonzero()}
    assert moved == {"student"}


@pytest.mark.parametrize("bad", [dict(age_loss="focal"), dict(dist="l1"), dict(dist_level="logits"), dict(dep="printed")])
def test_unknown_words(bad):
    with pytest.raises(ValueError, match="choose one of"): Objective(**bad)
