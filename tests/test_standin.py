"Stand-in corpora: what a page need not show"
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.labels import AGESUB, AGESUP, GENDERS
from mkdcls.scm import EXOGENOUS, latents
from mkdcls.standin import (CODECS, NOISES, STANDINS, StandIn, apply_codec, babble, bank, coloured, draw_manifest, music, observe, render, stages,
                            stand_in, stream, telephone_band)


@pytest.fixture(scope="module")
def few():
    "Six short telephone rows, two of them overlaid"
    m = draw_manifest("LTV", 400, seed=5).sort_values("duration")
    return pd.concat([m[m.overlaid].iloc[:2], m[~m.overlaid].iloc[:4]]).reset_index(drop=True)


def rngs(*seeds): return [np.random.default_rng(s) for s in seeds]


def test_the_table_is_the_protocols():
    assert list(STANDINS) == ["FCVG", "FCVE", "LTV", "call centre"]
    by = {n: (s.decades, s.channel, s.snr_mean, s.snr_sd, s.label_noise, s.p_overlay, s.overlay_label, s.rho) for n, s in STANDINS.items()}
    adult = (20, 30, 40, 50, 60)
    assert by == {"FCVG": (adult, "studio", 15, 5, 0, 0, 1/3, 0), "FCVE": ((60, 70), "studio", 15, 5, 0, 0, 1/3, 0),
                  "LTV": (adult, "telephone", 15, 5, .10, .15, 1/3, 0), "call centre": (adult, "telephone", 12, 5, .15, .20, 1/3, 0)}
    assert STANDINS["call centre"].weights == (1, 2, 2, 2, 1)
    assert stand_in("LTV") is STANDINS["LTV"]


def test_columns_and_types():
    m = draw_manifest("call centre", 50, per_speaker=3, seed=1)
    assert len(m) == 150 and m.utterance.is_unique and m.speaker.nunique() == 50
    assert not m.columns.duplicated().any()
    assert m.split.isna().all() and m.drop(columns="split").notna().all().all()
    for prefix in ("", "true_"):
        assert set(m[prefix + "gender"]) <= set(GENDERS) and set(m[prefix + "agesub"]) <= set(AGESUB) and set(m[prefix + "agesup"]) <= set(AGESUP)
    assert set(EXOGENOUS) <= set(m) and {"ov_" + c for c in EXOGENOUS} <= set(m)
    pd.testing.assert_frame_equal(latents(m), m[latents(m).columns])
    assert (m.groupby("speaker").age.nunique() == 1).all() and m.seed.nunique() > 140
    assert set(m.codec) == set(CODECS) and set(m.noise_kind) == set(NOISES)
    assert m.noise_slope.between(1, 2).all() and m.rt60.between(.2, .6).all() and m.overlay_db.between(0, 6).all()
    assert m.snr_studio.between(30, 40).all()


def test_seeds_and_names_give_other_people():
    a, b, c = draw_manifest("LTV", 20, seed=0), draw_manifest("LTV", 20, seed=1), draw_manifest("FCVG", 20, seed=0)
    assert not set(a.u_f0) & set(b.u_f0) and not set(a.u_f0) & set(c.u_f0) and not set(a.speaker) & (set(b.speaker) | set(c.speaker))
    assert not set(a.u_f0) & set(a.ov_u_f0)
    assert not set(a.u_f0) & set(replaced(a))


def replaced(a): return draw_manifest(replace(STANDINS["LTV"], name="another"), 20, seed=0).u_f0


def test_survives_parquet(tmp_path, few):
    few.to_parquet(tmp_path / "m.parquet")
    back = pd.read_parquet(tmp_path / "m.parquet")
    assert torch.equal(render(back)[0], render(few)[0])


def test_exogenous_draws_are_independent():
    m = draw_manifest("LTV", 20_000, seed=2)
    e = m[[c for c in m if c.startswith("e_")] + ["rt60", "overlay_db", "noise_slope", "age", "ov_age", "u_f0"]].astype(float)
    r = np.corrcoef(e.to_numpy().T)
    assert np.abs(r - np.eye(len(r))).max() < 5 / np.sqrt(len(m))
    for c, values in (("codec", CODECS), ("noise_kind", NOISES)):
        assert np.allclose(m[c].value_counts(normalize=True)[list(values)], .25, atol=4*np.sqrt(.25*.75/len(m)))


def test_snr_means():
    for name, mean in (("LTV", 15), ("call centre", 12)):
        snr = draw_manifest(name, 20_000, seed=0).snr_db
        assert abs(snr.mean() - mean) < 4*5/np.sqrt(len(snr)) and abs(snr.std() - 5) < 4*5/np.sqrt(2*len(snr))


def test_the_line_of_a_row_does_not_depend_on_the_batch(few):
    # the voice is held fixed here: what follows it must be the same to the bit, alone or in company, padded or not
    from mkdcls import standin as S
    rows = pd.concat([few.iloc[[i % 6]].assign(noise_kind=k, codec=c, noise_seed=i) for i, (k, c) in enumerate((k, c) for k in NOISES for c in CODECS)])
    clean, n = S.clean_voice(rows)
    second = S._second(rows, np.ones(len(rows), bool), clean, n)
    pad = lambda x: np.pad(x, ((0, 0), (0, 5000)))
    all_ = S._telephone(rows, pad(clean), pad(second), n)
    for i in range(len(rows)):
        k = n[i]
        one = S._telephone(rows.iloc[[i]], clean[[i], :k], second[[i], :k], n[[i]])
        for a, b in zip(all_, one): assert np.array_equal(a[i, :k], b[0])


def test_a_row_does_not_depend_on_the_batch(few):
    waves, n = render(few, overlay=True)
    for i in range(len(few)):
        one, k = render(few.iloc[[i]], overlay=True)
        assert k == n[i] and torch.equal(one[0], waves[i, :k])


def test_studio_rows_ignore_the_telephones_draws(few):
    a = render(few, channel="studio", overlay=False)[0]
    other = few.assign(codec="G.721", noise_kind="music", rt60=.6, snr_telephone=0., noise_slope=2., ov_seed=1, overlay_db=0.)
    assert torch.equal(a, render(other, channel="studio", overlay=False)[0])
    assert not torch.equal(a, render(few.assign(snr_studio=30.), channel="studio", overlay=False)[0])


def test_interventions_per_row(few):
    on = np.arange(len(few)) % 2 == 0
    mixed = stages(few, channel=np.where(on, "studio", "telephone"), overlay=on)
    studio, phone = stages(few, channel="studio", overlay=True), stages(few, channel="telephone", overlay=False)
    assert np.array_equal(mixed.wave[on], studio.wave[on]) and np.array_equal(mixed.wave[~on], phone.wave[~on])


def test_do_age_keeps_words_and_second_voice(few):
    a, b = stages(few, overlay=True), stages(few, age=75, overlay=True)
    assert np.array_equal(a.n_samples, b.n_samples)
    for x, y in zip(a.second, b.second): assert np.corrcoef(x, y)[0, 1] > .999999 # the same voice, at another level


def test_observe_reads_age_and_sex(few):
    o = observe(few.assign(label_noise=0., overlaid=False), age=35, female=False)
    assert set(o.gender) == {"male"} and set(o.agesub) == {"30s"} and set(o.agesup) == {"20-30"}
    assert set(observe(few, age=79).true_agesub) == {"60s+"}


def test_ends_slip_inwards():
    m = draw_manifest(StandIn("ends", (20, 60), (1, 1), "studio", label_noise=1.), 500)
    assert (m.agesub == np.where(m.true_agesub == "20s", "30s", "50s")).all() and (m.label_source == "adjacent").all()


def test_stream_in_processes_equals_stream_here(few):
    torch.set_num_threads(1)
    here = list(stream(few, batch=4, channel="telephone"))
    there = list(stream(few, batch=4, workers=1, channel="telephone"))
    assert len(here) == len(there) == 2
    for (p, w, n), (q, v, k) in zip(here, there):
        assert np.array_equal(p, q) and torch.equal(n, k) and torch.equal(w, v)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("n", (1, 159, 161, 8000, 12345))
def test_codecs_keep_the_length(codec, n):
    x = .1*np.sin(np.arange(n)/5).astype(np.float32)
    assert apply_codec(x, codec).shape == x.shape and apply_codec(x, codec).dtype == np.float32


@pytest.mark.parametrize("make", (lambda r, n: coloured(np.full(len(n), 1.5), r, n), babble, music))
def test_noises_stop_where_the_utterance_stops(make):
    n = np.array([9000, 4000])
    long, short = make(rngs(0, 1), n), make(rngs(1), n[1:])
    assert long.shape == (2, 9000) and long.dtype == np.float32 and not long[1, 4000:].any() and np.square(long[1, :4000]).mean() > 1e-6
    assert np.array_equal(long[1, :4000], short[0])


def test_babble_is_four_to_six_voices():
    # the bank's voices have RMS 1, so k of them have power about k
    power = np.square(babble(rngs(*range(200)), np.full(200, 16_000))).mean(1)
    assert 4 < power.mean() < 6 and bank().shape[0] == 24


def test_pass_band_of_a_tone():
    t = np.arange(8000)/8000
    rms = lambda f: float(np.sqrt(np.square(telephone_band(np.sin(2*np.pi*f*t)[None])[0, 4000:]).mean())*2**.5)
    assert rms(100) < .01 and rms(3700) < .01 and all(.93 < rms(f) < 1.001 for f in (400, 1000, 3000))


@pytest.mark.parametrize("kw, says", [({"channel": "fax"}, "unknown channel"), ({"rho": 2.}, r"\[-1, 1\]"), ({"p_overlay": 1.5}, "no share"),
                                      ({"weights": (1,)}, "one weight per decade"), ({"channel": "studio", "rho": .5}, "by_age")])
def test_bad_stand_ins(kw, says):
    with pytest.raises(ValueError, match=says): replace(STANDINS["LTV"], **kw)


def test_bad_calls(few):
    for call, says in ((lambda: draw_manifest("XYZ", 3), "unknown stand-in"), (lambda: draw_manifest("LTV", 3, 0), "must be 1 or more"),
                       (lambda: render(few[:0]), "no rows"), (lambda: next(stream(few[:0])), "no rows"),
                       (lambda: render(few, channel="fax"), "unknown channel"),
                       (lambda: apply_codec(np.zeros(9, "f4"), "Opus"), "unknown codec"), (lambda: observe(few, age=10), "no class")):
        with pytest.raises(ValueError, match=says): call()
