"""Properties of the synthetic speakers that do not belong on the page."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mkdcls import scm
from mkdcls.labels import AGESUB, AGESUP, GENDERS, TASKS

U = list(scm.EXOGENOUS)
ages = st.floats(20, 79.99)
scales = st.floats(0, 1.5)
seeds = st.integers(0, 2**31)


# --- the protocol's table, written out a second time from its rows ---

def table(age, female, u, s):
    "One speaker, scalar arithmetic, the protocol's rows from top to bottom"
    def through(points):
        if age <= 25: return points[0]
        if age >= 75: return points[-1]
        k = int((age - 25)//10)
        return points[k] + (points[k + 1] - points[k])*(age - 25 - 10*k)/10
    def pos(x): return max(0., x)/10
    z = {}
    z['f0_st'] = through([12*np.log2(f/100) for f in (120, 114, 110, 112, 116, 124)]) + 2.2*u['u_f0']
    if female: z['f0_st'] += through([8.93, 8.23, 7.63, 7.67, 7.15, 6.10])
    z['f0_hz'] = 100*2**(z['f0_st']/12)
    z['f0_sd_st'] = 2.7*np.exp(.2*u['u_move'])
    z['declination_st'] = -2
    z['formant_scale'] = (1.16 if female else 1)*np.exp(.035*u['u_formant'])
    z['f1_age_scale'] = 1 - .0005*(age - 20) if female else 1
    for k in scm.OFFSETS: z[f'offset_{k}'] = np.exp(.03*u[f'u_{k}'])
    z['bandwidth_scale'] = np.exp(.15*u['u_bandwidth'])
    z['f4_scale'] = np.exp(.03*u['u_f4'])
    z['jitter_pct'] = (.38 if female else .30)*np.exp(s*.35*u['u_jitter'])*(1.15 if age >= 70 else 1)
    z['shimmer_pct'] = (2. + (0 if female else .375*pos(age - 50)))*np.exp(s*.30*u['u_shimmer'])
    z['hnr_db'] = 20 - (.75 if female else .6)*pos(age - 45) + s*2.5*u['u_hnr']
    z['tilt_db_oct'] = -12 - (1 if female else 0) - .6*pos(age - 45) + s*1.5*u['u_tilt']
    z['rate_syl_s'] = 5.6 - .27*pos(age - 45) + s*.55*u['u_rate']
    z['pause_share'] = min(max(.12 + .045*pos(age - 40) + s*.04*u['u_pause'], .02), .5)
    z['tremor_st'] = .10*np.exp(.375*pos(age - 55) + s*.5*u['u_tremor'])
    z['habit1'],z['habit2'] = u['u_habit1'],u['u_habit2']
    z['f1_scale'] = z['f1_age_scale']*np.prod([z[f'offset_{v}_f1'] for v in scm.VOWELS])**(1/8)
    return z


@settings(max_examples=30, deadline=None)
@given(seeds, st.lists(ages, min_size=12, max_size=12), scales)
def test_equations_are_the_protocols(seed, years, s):
    sp = scm.do(scm.draw_speakers(12, seed=seed), age=years)
    got = scm.latents(sp, s)
    want = pd.DataFrame([table(r['age'], r['female'], r, s) for r in sp.to_dict('records')])
    assert set(got) == set(want) == set(scm.GRAPH)
    assert_allclose(got[list(want)], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('age', [20, 25, 35, 40, 45, 50, 55, 69.999, 70, 75, 79.9])
@pytest.mark.parametrize('female', [0, 1])
def test_equations_at_onsets_and_knots(age, female):
    got = scm.latents(scm.average_speakers(age, female)).iloc[0]
    want = table(age, female, dict.fromkeys(U, 0.), scm.S)
    assert_allclose(got[list(want)].to_numpy(float), list(want.values()), rtol=1e-12, atol=1e-12)


def test_pause_share_keeps_within_its_bounds():
    sp = scm.average_speakers([30, 79, 30], 0).assign(u_pause=[-20., 20., 0.])
    assert_allclose(scm.latents(sp, 1.5).pause_share, [.02, .5, .12])


def test_s_touches_only_the_judged_spreads_that_carry_it():
    sp = scm.draw_speakers(200)
    a,b = scm.latents(sp, .3),scm.latents(sp, .9)
    assert {c for c in a if not np.array_equal(a[c], b[c])} == {'jitter_pct', 'shimmer_pct', 'hnr_db', 'tilt_db_oct', 'rate_syl_s', 'pause_share', 'tremor_st'}


def test_the_default_scale_is_the_frozen_one():
    sp = scm.draw_speakers(50)
    assert scm.S == 0.55
    pd.testing.assert_frame_equal(scm.latents(sp), scm.latents(sp, 0.55))


# --- drawing ---

@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 40), st.integers(0, 40))
def test_speaker_i_does_not_depend_on_n(seed, m, n):
    m,n = sorted((m, n))
    pd.testing.assert_frame_equal(scm.draw_speakers(m, seed=seed), scm.draw_speakers(n, seed=seed)[:m])


@settings(max_examples=25, deadline=None)
@given(seeds, st.lists(st.sampled_from((20, 30, 40, 50, 60, 70)), min_size=1, unique=True))
def test_ages_lie_in_the_decades_and_voices_do_not_depend_on_them(seed, decades):
    sp = scm.draw_speakers(60, decades=tuple(decades), seed=seed)
    assert set(sp.age//10*10) <= set(decades)
    assert sp.speaker.is_unique and set(sp.female) <= {0, 1} and sp.age.dtype == float
    assert_array_equal(sp[U], scm.draw_speakers(60, seed=seed)[U])


def test_stand_in_of_the_elderly():
    sp = scm.draw_speakers(4000, decades=(60, 70), seed=3)
    assert 60 <= sp.age.min() < 60.1 and 79.9 < sp.age.max() < 80
    assert abs((sp.age < 70).mean() - .5) < 4*.5/4000**.5


def test_a_decade_without_weight_is_never_drawn():
    sp = scm.draw_speakers(2000, decades=(20, 30, 40), weights=(0, 1, 0))
    assert sp.age.between(30, 40, inclusive='left').all()


def test_seeds_and_corpora_differ():
    a,b,c = scm.draw_speakers(20, seed=0),scm.draw_speakers(20, seed=1),scm.draw_speakers(20, seed=(0, 1))
    assert not set(a.speaker) & set(b.speaker) and not set(a.speaker) & set(c.speaker) and not set(b.speaker) & set(c.speaker)
    assert not np.isin(a.u_f0, b.u_f0).any() and not np.isin(a.u_f0, c.u_f0).any()


@pytest.mark.parametrize('weights', [(1,), (1, -1), (0, 0), (1, float('nan')), ()])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match='one weight >= 0 per decade'): scm.draw_speakers(3, decades=(20, 30), weights=weights)


# --- intervening ---

@settings(max_examples=25, deadline=None)
@given(seeds, ages, st.sampled_from((0, 1)))
def test_do_sets_the_cause_and_nothing_else(seed, age, female):
    sp = scm.draw_speakers(8, seed=seed)
    before = sp.copy()
    out = scm.do(sp, age=age, female=female)
    pd.testing.assert_frame_equal(sp, before) # the original is left alone
    assert (out.age == age).all() and (out.female == female).all()
    same = [c for c in sp if c not in ('age', 'female')]
    pd.testing.assert_frame_equal(out[same], sp[same])
    pd.testing.assert_frame_equal(scm.do(out, age=sp.age, female=sp.female), sp)


@settings(max_examples=25, deadline=None)
@given(seeds, ages, ages)
def test_the_last_intervention_wins_and_age_and_sex_commute(seed, a, b):
    sp = scm.draw_speakers(5, seed=seed)
    pd.testing.assert_frame_equal(scm.do(scm.do(sp, age=a), age=b), scm.do(sp, age=b))
    pd.testing.assert_frame_equal(scm.do(scm.do(sp, age=a), female=1), scm.do(scm.do(sp, female=1), age=a))


@settings(max_examples=25, deadline=None)
@given(seeds, ages, ages, scales)
def test_only_descendants_of_age_move(seed, a, b, s):
    sp = scm.draw_speakers(6, seed=seed)
    x,y = scm.latents(scm.do(sp, age=a), s),scm.latents(scm.do(sp, age=b), s)
    still = [c for c in scm.GRAPH if c not in scm.descendants('age')]
    assert {'bandwidth_scale', 'formant_scale', 'offset_eo_f1', 'habit2'} <= set(still)
    assert_array_equal(x[still], y[still])


def test_the_index_is_kept():
    sp = scm.draw_speakers(10)[::-2]
    assert scm.latents(sp).index.equals(sp.index) and scm.do(sp, age=50).index.equals(sp.index)
    pd.testing.assert_frame_equal(scm.latents(sp), scm.latents(scm.draw_speakers(10)).loc[sp.index])
    pd.testing.assert_frame_equal(scm.do(sp, age=list(sp.age)), sp)


def test_every_parent_is_known_and_comes_first():
    known = {'age', 'female', *U}
    for latent,parents in scm.GRAPH.items():
        assert set(parents) <= known, latent
        known.add(latent)


@pytest.mark.parametrize('bad, says', [(dict(age=0), 'years > 0'), (dict(age=float('inf')), 'years > 0'),
                                       (dict(female=2), '0 or 1'), (dict(female=[0, 1]), 'one per row')])
def test_bad_interventions_are_refused(bad, says):
    with pytest.raises(ValueError, match=says): scm.do(scm.draw_speakers(3), **bad)


@pytest.mark.parametrize('s', [-.1, float('nan'), float('inf')])
def test_bad_scales_are_refused(s):
    with pytest.raises(ValueError, match='finite number >= 0'): scm.latents(scm.draw_speakers(2), s)


# --- the ceiling ---

def test_labels_are_in_the_order_of_the_classes():
    sp = scm.draw_speakers(300, decades=(20, 30, 40, 50, 60, 70))
    for age,F,g,sub,sup in zip(sp.age, sp.female, *(scm.truth(sp, t) for t in ('gender', 'agesub', 'agesup'))):
        assert GENDERS[g] == ('female' if F else 'male')
        assert AGESUB[sub] == ('60s+' if age >= 60 else f'{int(age//10)}0s')
        assert AGESUP[sup] == ('20-30' if age < 40 else '40-50' if age < 60 else '60+')


def test_the_oracle_sees_no_cause_and_no_leak():
    assert not set(scm.LATENTS) & {'age', 'female', 'speaker', 'f1_age_scale', *U}
    z = scm.features(scm.draw_speakers(5000))
    sp = scm.draw_speakers(5000)
    x = np.column_stack([np.ones(len(z)), z, z**2])
    for F in (0, 1): # nothing like an exact copy of the age: a regression leaves years of error
        k = sp.female == F
        rest = sp.age[k] - x[k] @ np.linalg.lstsq(x[k], sp.age[k], rcond=None)[0]
        assert rest.std() > 4


def test_posterior_looks_at_latents_alone():
    "At s, shift the causes and undo every consequence in u: same latents, same opinion"
    sp = scm.draw_speakers(200, decades=(20, 30))
    moved = scm.do(sp, age=(sp.age + 7).clip(upper=44)) # between 20 and 45 age moves only F0, women's F1 and pauses after 40
    moved['age'] = moved.age.clip(upper=39.9)
    a,b = scm.latents(sp),scm.latents(moved)
    moved['u_f0'] += (a.f0_st - b.f0_st)/2.2
    for v in scm.VOWELS: moved[f'u_{v}_f1'] += np.log(a.f1_age_scale/b.f1_age_scale)/.03
    c = scm.latents(moved)
    assert_allclose(c[list(scm.LATENTS)], a[list(scm.LATENTS)], rtol=1e-9)
    assert not np.allclose(moved.age, sp.age)
    for t in TASKS: assert_allclose(scm.posterior(moved, t), scm.posterior(sp, t), atol=1e-7)


def test_oracle_repeats_itself_and_refuses_shared_speakers():
    sp = scm.draw_speakers(1500)
    a,b = (scm.oracle(sp[:1000], sp[1000:], 'agesup') for _ in range(2))
    assert_array_equal(a.predicted, b.predicted)
    assert a.confusion.sum() == len(a.predicted) == 500
    with pytest.raises(ValueError, match='1 speakers are in train and test'): scm.oracle(sp[:1000], sp[999:], 'agesup')


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_the_frozen_scale_holds_for_other_speakers(seed):
    sp = scm.draw_speakers(20_000, seed=seed)
    assert abs(scm.oracle(sp[:15_000], sp[15_000:], 'agesup').macro_f1 - .80) < .02
