"Counterfactual pairs: do() changes descendants only and exactly as the equations say; a placebo is exactly nothing"
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mkdcls.counterfactuals import AGES, Response, render_intervened, mean_interval, movement, network_hears, oracle_hears, per_speaker, shuffled, mean_distance
from mkdcls.encoders import encoder
from mkdcls.engine.features import Features
from mkdcls.fbank import network_input
from mkdcls.model import MultiTaskModel
from mkdcls.scm import EXOGENOUS, average_speakers, descendants, features, latents, men_f0, pos, posterior, sex_gap, truth
from mkdcls.standin import draw_manifest, render, stages

DRAWN = ("seed", "ov_seed", "noise_seed", "codec", "noise_kind", "rt60", "duration", "e_channel", "e_snr", "overlay_db", "ov_age", "ov_female", *EXOGENOUS)


@pytest.fixture(scope="module")
def m(): return draw_manifest("LTV", 300, seed=21)


@pytest.fixture(scope="module")
def few():
    m = draw_manifest("LTV", 60, seed=22)
    return m[m["overlaid"]].head(3).reset_index(drop=True)


@given(age=st.floats(*AGES), gender=st.sampled_from(["female", "male", "other", None]),
       channel=st.sampled_from(["studio", "telephone", None]), overlay=st.sampled_from([True, False, None]))
@settings(max_examples=25, deadline=None)
def test_noise_stays_and_only_descendants_move(age, gender, channel, overlay):
    m = draw_manifest("LTV", 40, seed=1)
    after = render_intervened(m, age, gender, channel, overlay)
    assert list(after) == list(m) and (after.dtypes == m.dtypes).all()
    for c in DRAWN: pd.testing.assert_series_equal(after[c], m[c])
    changed = {c for c in m if not after[c].equals(m[c])}
    labels = {p + c for p in ("", "true_") for c in ("agesub", "agesup", "gender")} | {"label_source"}
    may = {"age", *descendants("age")} | labels
    if gender: may |= {"female", *descendants("female")}
    if channel: may |= {"line", "rho", "channel", "snr_db"}
    if overlay is not None: may |= {"overlaid"}
    assert changed <= may
    pd.testing.assert_frame_equal(latents(after), after[list(latents(after))])


def test_by_age_the_line_follows_the_age_until_it_is_set(m):
    tied = m.assign(line="by_age", rho=.8)
    old, young = render_intervened(tied, age=75), render_intervened(tied, age=21)
    assert (old["channel"] == "studio").mean() > .9 > .1 > (young["channel"] == "studio").mean()
    assert set(render_intervened(tied, age=75, channel="telephone")["channel"]) == {"telephone"}


def test_effects_on_latents_are_the_equations(m):
    a, b, F = render_intervened(m, age=30), render_intervened(m, age=70), m["female"].to_numpy()
    np.testing.assert_allclose(b["f0_st"] - a["f0_st"], men_f0(70) - men_f0(30) + F * (sex_gap(70) - sex_gap(30)), atol=1e-12)
    np.testing.assert_allclose(b["hnr_db"] - a["hnr_db"], -np.where(F, .75, .6) * pos(70 - 45), atol=1e-12)
    np.testing.assert_allclose(b["tilt_db_oct"] - a["tilt_db_oct"], -.6 * pos(25), atol=1e-12)
    np.testing.assert_allclose(b["rate_syl_s"] - a["rate_syl_s"], -.27 * pos(25), atol=1e-12)
    np.testing.assert_allclose(b["jitter_pct"] / a["jitter_pct"], 1.15, atol=1e-12)
    other = render_intervened(m, gender="other")
    np.testing.assert_allclose(other["f0_st"] - m["f0_st"], (1 - 2 * F) * sex_gap(m["age"]), atol=1e-12)


def test_signals_upstream_of_the_cause_are_bit_identical(few):
    worlds = {k: stages(render_intervened(few, **do)) for k, do in dict(now={}, studio=dict(channel="studio"), alone=dict(overlay=False), old=dict(age=70)).items()}
    now = worlds["now"]
    for k in ("studio", "alone"): assert np.array_equal(now.clean, worlds[k].clean)
    assert np.array_equal(now.second, worlds["studio"].second) and np.array_equal(now.noise, worlds["alone"].noise)
    assert not worlds["alone"].second.any() and now.second.any()
    assert not np.array_equal(now.clean, worlds["old"].clean) and np.array_equal(now.n_samples, worlds["old"].n_samples)
    ratio = np.linalg.norm(worlds["old"].second, axis=1) / np.linalg.norm(now.second, axis=1)
    np.testing.assert_allclose(worlds["old"].second, now.second * ratio[:, None], atol=1e-6)


@pytest.mark.parametrize("mine,theirs", [
    (dict(age=70.), dict(age=70.)), (dict(gender="female"), dict(female=1)), (dict(channel="studio"),) * 2, (dict(overlay=False),) * 2])
def test_a_changed_manifest_sounds_like_the_intervention(few, mine, theirs):
    for a, b in zip(render(render_intervened(few, **mine)), render(few, **theirs)): assert torch.equal(a, b)


def test_the_oracle_equals_densities_multiplied_by_hand(m):
    s = .55
    ages = np.concatenate([d + np.arange(.125, 10, .25) for d in (20, 30, 40, 50, 60)])
    grid = average_speakers(np.tile(ages, 2), np.repeat([0, 1], len(ages)))
    sd = np.array([2.2, .035, .03 / 8**.5, s * .35, s * .30, s * 2.5, s * 1.5, s * .55, s * .04, s * .5])
    a, b = (render_intervened(m.head(6), age=v) for v in (25, 65))
    def by_hand(w):
        like = norm.logpdf(features(w)[:, None], features(grid), sd).sum(2)
        p = np.exp(like - like.max(1, keepdims=True)) @ np.eye(3)[truth(grid, "agesup")]
        return p / p.sum(1, keepdims=True)
    got = movement(oracle_hears(a), oracle_hears(b))
    d = by_hand(b) - by_hand(a)
    np.testing.assert_allclose(got["tv_agesup"], abs(d).sum(1) / 2, atol=1e-9)
    np.testing.assert_allclose(got["move_agesup"], d @ np.arange(3), atol=1e-9)
    assert (got["changed_gender"] == 0).all()
    for do in (dict(channel="studio"), dict(overlay=True)):
        assert all((v == 0).all() for v in movement(oracle_hears(m), oracle_hears(render_intervened(m, **do))).values())
    np.testing.assert_allclose(posterior(a, "agesup"), by_hand(a), atol=1e-9)


def test_a_placebo_is_exactly_nothing(few):
    torch.manual_seed(0)
    net = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"), encoder("ecapa", "teacher", scale_name="smoke"))
    def heard(w):
        x, n = network_input(*render(w))
        return network_hears(net, Features(torch.cat([v[:k] for v, k in zip(x, n)]), n.cumsum(0) - n, n))
    now = heard(few)
    assert all((v == 0).all() for v in movement(now, heard(render_intervened(few, channel="telephone", overlay=True, age=few["age"])), now).values())
    assert movement(now, heard(render_intervened(few, channel="studio")), now)["z"].min() > 0


def test_heard_is_what_the_model_says_in_the_order_asked():
    torch.manual_seed(1)
    n = torch.tensor([40, 80, 60])
    f = Features(torch.randn(180, 80).half(), n.cumsum(0) - n, n)
    net = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"), encoder("ecapa", "teacher", scale_name="smoke"))
    h = network_hears(net, f, torch.tensor([2, 1, 0]), batch=1)  # by length this is a cycle of three
    for i, row in enumerate((2, 1, 0)):
        with torch.no_grad(): out = net(*f.batch(torch.tensor([row])))
        torch.testing.assert_close(torch.from_numpy(h.z[[i]]), out.z)
        torch.testing.assert_close(torch.from_numpy(h.p["agesup"][[i]]), out.logits["agesup"].softmax(-1))
        torch.testing.assert_close(torch.from_numpy(h.k[[i]]), out.k.embedding)
    alone = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"), encoder("ecapa", "teacher", scale_name="smoke"), z="student")
    assert network_hears(alone, f).k is None and set(movement(h, h)) == {f"{k}_{t}" for k in ("tv", "move", "changed") for t in ("gender", "agesup")}


def test_spread_and_intervals():
    z = np.array([[0., 0], [3, 4], [6, 8]])
    assert mean_distance(z) == pytest.approx(20 / 3)
    one, two = np.random.default_rng(0).standard_normal((300, 2)), np.random.default_rng(1).standard_normal((200, 2)) + 1
    got = mean_interval([one], 4000)
    np.testing.assert_allclose((got.high - got.low) / 2, 1.96 * one.std(0) / 300**.5, rtol=.06)
    both = mean_interval([one, two], 4000)
    np.testing.assert_allclose(both.value, (one.mean(0) + two.mean(0)) / 2)
    assert ((both.low < both.value) & (both.value < both.high)).all()
    assert (both.high - both.low > 1.5 * (got.high - got.low)).all(), "seeds that disagree must widen the interval"
    same = mean_interval([np.stack([one[:, 0], one[:, 0]], 1)])
    assert same.low[0] == same.low[1], "columns share their draws"
    assert np.isnan(mean_interval([np.full((5, 1), np.nan)]).value).all()
    np.testing.assert_allclose(per_speaker(np.array([[1., 2], [3, 4], [9, 9]]), ["a", "a", "b"]), [[2, 3], [9, 9]])


def test_shuffled_names_vanish_and_never_keep_a_pair_apart():
    score = np.tile([0., 1, 5], (400, 1))
    null = shuffled(score, 4000)
    assert abs(null.mean()) < .01
    pairs = np.array([b - a for a in (0, 1, 5) for b in (0, 1, 5) if a != b])
    assert null.std() == pytest.approx(pairs.std() / 400**.5, rel=.05)
    with pytest.raises(ValueError, match="W ≥ 2"): shuffled(np.zeros((3, 1)))


@pytest.mark.parametrize("do,says", [
    (dict(age=19.9), "from 20 to 80"), (dict(age=80.1), "from 20 to 80"), (dict(age=float("nan")), "from 20 to 80"), (dict(channel="radio"), "'studio', 'telephone'"),
    (dict(gender=1), "'female', 'male', 'other'"), (dict(overlay=2), "True, False"), (dict(age=[30., 40.]), "one per row")])
def test_out_of_range(m, do, says):
    with pytest.raises(ValueError, match=says): render_intervened(m, **do)


def test_wrong_material(m):
    with pytest.raises(ValueError, match="stand-in only"): render_intervened(m.drop(columns=["u_f0"]), age=30)
    net = MultiTaskModel(encoder("ecapa", "student", scale_name="smoke"), ("gender", "agesup"))
    f = Features(torch.randn(44, 80).half(), torch.tensor([0, 40]), torch.tensor([40, 4]))
    with pytest.raises(ValueError, match=r"no head for \['agesub'\]; it answers \['gender', 'agesup'\]"): network_hears(net, f, tasks=("agesub",))
    with pytest.raises(ValueError, match="recording 1 has 4 frames, the encoder needs at least 5"): network_hears(net, f)
    with pytest.raises(ValueError, match="no recordings"): network_hears(net, f, torch.tensor([], dtype=torch.int64))
    p = np.ones((2, 3)) / 3
    with pytest.raises(ValueError, match="same tasks"): movement(Response({"agesup": p}), Response({"gender": p}))
    with pytest.raises(ValueError, match="at least 2"): mean_distance(np.zeros((1, 4)))
    with pytest.raises(ValueError, match="no seeds"): mean_interval([])
