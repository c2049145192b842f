"The voice: determinism, independence of the batch, levels, lengths, replays under do(). What the page does not show."
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from mkdcls.scm import VOWELS, do, draw_speakers, latents
from mkdcls.voice import (VOICE_COLUMNS, CONSONANTS, SPEECH_DBFS, PHRASES, SR, STEP, content, control_frames, parse_phrase, play_score, write_score, sustain,
                          synthesise, timing)

torch.set_num_threads(1)


def crowd(n=6, seed=0): return latents(draw_speakers(n, seed=seed)).reset_index(drop=True)


def test_same_seed_same_wave():
    z, d, s = crowd(), np.full(6, 1.5), np.arange(6)
    a, n = synthesise(z, d, s)
    b, m = synthesise(z, d, s)
    assert torch.equal(a, b) and torch.equal(n, m)
    assert a.dtype == torch.float32 and n.dtype == torch.int64
    assert not torch.equal(a, synthesise(z, d, s + 1)[0])


def test_batch_does_not_matter():
    z, d, s = crowd(), np.array([.2, 1., 1.7, 2.4, 3.1, 5.]), np.arange(6)
    w, n = synthesise(z, d, s)
    order = np.array([4, 0, 5, 2, 1, 3])
    v, m = synthesise(z.iloc[order], d[order], s[order])
    for k,b in enumerate(order): assert_close(v[k], w[b], rtol=0, atol=1e-6)
    for b in range(6):
        alone, k = synthesise(z.iloc[[b]], d[[b]], s[[b]])
        assert int(k[0]) == int(n[b]) == alone.shape[1]
        assert_close(alone[0], w[b, :n[b]], rtol=0, atol=1e-6)


@pytest.mark.parametrize('seconds', [.3, 1., 8.])
def test_lengths_level_and_padding(seconds):
    z = crowd()
    d = np.linspace(seconds/2, seconds, 6)
    p = write_score(z, d, np.arange(6) + 50)
    w, n = play_score(p)
    assert n.tolist() == np.round(d*SR).astype(int).tolist() and w.shape == (6, int(n.max()))
    assert w.isfinite().all() and w.abs().max() < .96
    for b in range(6):
        assert not w[b, n[b]:].any()
        on = p.active[b, :-1].repeat_interleave(STEP)[:n[b]]
        level = 20*torch.log10(w[b, :n[b]][on].square().mean().sqrt())
        assert_close(level, torch.tensor(SPEECH_DBFS), rtol=0, atol=.05)


def test_extreme_voices_stay_sound():
    z = crowd(4)
    z['f0_st'] = [-8., 30., 2., 10.]
    z['pause_share'], z['rate_syl_s'], z['hnr_db'] = [.02, .5, .5, .02], [2., 9., 3., 7.], [-5., 60., 0., 20.]
    w, _ = synthesise(z, np.full(4, 2.), np.arange(4))
    assert w.isfinite().all() and w.abs().max() < .96 and (w.abs().amax(1) > .05).all()


def test_do_age_keeps_the_words():
    who = draw_speakers(5, seed=3)
    young, old = [write_score(latents(do(who, age=a)), np.full(5, 4.), np.arange(5)) for a in (25, 72)]
    for a,b in zip(young.words, old.words): assert np.array_equal(a, b)
    assert (old.timing.spoken < young.timing.spoken).all() and torch.equal(young.n_samples, old.n_samples)
    assert not torch.equal(play_score(young)[0], play_score(old)[0])
    again = write_score(latents(do(who, age=25)), np.full(5, 4.), np.arange(5))
    assert torch.equal(play_score(again)[0], play_score(young)[0])


def test_words_ignore_the_latents():
    a = write_score(crowd(4, 1), np.full(4, 2.), np.arange(4)).words
    b = write_score(crowd(4, 2), np.full(4, 6.), np.arange(4)).words
    for x,y in zip(a, b): assert np.array_equal(x, y)


@pytest.mark.parametrize('k', range(len(PHRASES)))
def test_fixed_phrases(k):
    on, vo, co, group = parse_phrase(PHRASES[k])
    assert len(on) >= 4 and (np.diff(group) >= 0).all()
    t = timing(content([1, 2], [k, k]), np.array([5., 4.]), np.array([.1, .3]), np.array([1., 1.]))
    np.testing.assert_allclose(t.duration, len(on)/np.array([5., 4.])/np.array([.9, .7]), rtol=1e-9)
    assert t.spoken.tolist() == [len(on)]*2


def test_pauses_and_rate_are_exact_in_the_plan():
    z = crowd(20, 4)
    p = write_score(z, np.full(20, 6.), np.arange(20))
    share = 1 - p.active[:, :6*SR//STEP].float().mean(1).numpy()
    np.testing.assert_allclose(share, z.pause_share, atol=.01)
    np.testing.assert_allclose(p.timing.spoken/(6*(1 - z.pause_share)), z.rate_syl_s, rtol=.12)
    assert (np.diff(p.timing.ends.reshape(20, -1), axis=1) >= -1e-9).all()


def test_sounds_cover_the_inventory():
    w = content(range(20))
    assert set(w.vowel.ravel()) == set(range(len(VOWELS)))
    assert set(CONSONANTS.kind.iloc[np.unique(w.onset)]) == {'none', 'stop', 'affricate', 'fricative', 'nasal', 'liquid', 'glide'}


def test_sustained_vowel_is_flat_and_tremor_is_its_only_motion():
    z = crowd(2)
    z['tremor_st'] = [0., .5]
    p = sustain(z, 'a', 1., [1, 2])
    st = 12*torch.log2(p.f0/100)
    assert_close(st.amax(1) - st.amin(1), torch.tensor([0., 1.]), rtol=0, atol=.01)
    assert play_score(p)[0].shape == (2, SR)
    with pytest.raises(ValueError, match='is no vowel'): sustain(z, 'y', 1., [1, 2])


def test_refusals():
    z = crowd(2)
    ok = (np.full(2, 1.), np.arange(2))
    for c in ('jitter_pct', 'offset_eo_f2'):
        with pytest.raises(ValueError, match='lack the columns'): synthesise(z.drop(columns=c), *ok)
        with pytest.raises(ValueError, match='NaN'): synthesise(z.assign(**{c:float('nan')}), *ok)
    for d in (0., -1., 21., float('nan')):
        with pytest.raises(ValueError, match='durations must lie'): synthesise(z, [1., d], np.arange(2))
    with pytest.raises(ValueError, match='one of each'): synthesise(z, [1.], np.arange(2))
    for phrase in (-2, len(PHRASES)):
        with pytest.raises(ValueError, match='unknown phrase'): synthesise(z, *ok, [0, phrase])
    with pytest.raises(ValueError, match='negative'): synthesise(z, np.full(2, 1.), [0, -1])
    assert set(VOICE_COLUMNS) <= set(z.columns)


def test_control_frames_reach_beyond_the_end():
    for n in (1, 63, 64, 8000): assert (control_frames(n) - 1)*STEP >= n + 256
