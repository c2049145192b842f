"Corpora: splits that hold for any manifest, adapters on trees with the corpora's own dirt, and real speech where it is"
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import given, settings, strategies as st

from mkdcls.corpora import (REQUIRED, ROLES, SPLITS, accent_archive, check_manifest, check_selection, common_voice, corpora_file, deal, finish_manifest,
                            own_corpus, own_template, read_audio, real_roles, selection_list, speaker_folds, split_speakers)
from mkdcls.labels import AGESUB, GENDERS, agesup_of

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get('MKDCLS_REAL') or ROOT.parent / 'shared' / 'data')
real_only = pytest.mark.skipif(not (REAL / 'common_voice').is_dir(),
                               reason='no real speech here: set MKDCLS_REAL to a folder with common_voice/ and accent_archive/')


def tone(path, seconds=1.5, rate=8000, pitch=200, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = .2 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    sf.write(path, np.stack([wave] * channels, 1), rate, format='MP3' if path.suffix == '.mp3' else None)


def invent(speakers):
    "[(name, gender, agesub, utterances)] → manifest"
    rows = [(f'{s}-{i}', s, g, a) for s, g, a, n in speakers for i in range(n)]
    df = pd.DataFrame(rows, columns=['utterance', 'speaker', 'gender', 'agesub'])
    return df.assign(age=np.nan, agesup=df.agesub.map(agesup_of), corpus='x', duration=2.)


people = st.lists(st.tuples(st.text('abcdef가나0123', min_size=1, max_size=6), st.sampled_from(GENDERS), st.sampled_from(AGESUB), st.integers(1, 4)),
                  min_size=12, max_size=60, unique_by=lambda o: o[0])


@settings(max_examples=60, deadline=None)
@given(people, st.integers(0, 2**32), st.permutations(range(7)), st.sampled_from([(.8, .1, .1), (.6, .2, .2), (.7, .3, 0), (1 / 3, 1 / 3, 1 / 3)]))
def test_split_is_disjoint_stratified_and_blind_to_order(speakers, seed, order, fractions):
    df = invent(speakers)
    a = split_speakers(df, fractions, seed)
    check_manifest(a)
    assert a.index.equals(df.index) and set(a.split) <= set(SPLITS)
    shuffled = df.iloc[np.argsort([(i * 31 + order[i % 7]) % len(df) for i in range(len(df))], kind='stable')]
    pd.testing.assert_series_equal(split_speakers(shuffled, fractions, seed).split.sort_index(), a.split)
    renumbered = split_speakers(df.set_index(pd.Index(range(100, 100 + len(df)))), fractions, seed)
    assert renumbered.split.tolist() == a.split.tolist()
    who = a.drop_duplicates('speaker')
    for s, f in zip(SPLITS, fractions):
        assert abs((who.split == s).sum() - f * len(who)) <= 1
        assert (who.groupby(['gender', 'agesub']).split.agg(lambda o, s=s, f=f: abs((o == s).sum() - f * len(o))) < 2).all()


@settings(max_examples=40, deadline=None)
@given(people, st.integers(0, 99), st.integers(2, 6))
def test_folds_hold_each_speaker_once_and_each_stratum_evenly(speakers, seed, k):
    df = invent(speakers)
    a = df.assign(fold=speaker_folds(df, k, seed))
    assert a.groupby('speaker').fold.nunique().max() == 1 and set(a.fold) == set(range(k))
    pd.testing.assert_series_equal(speaker_folds(df[::-1], k, seed).sort_index(), a.fold)
    who = a.drop_duplicates('speaker')
    assert np.ptp(who.fold.value_counts()) <= 1
    assert who.groupby(['gender', 'agesub']).fold.agg(lambda o: np.ptp(np.bincount(o, minlength=k))).max() <= 1


def test_split_is_the_same_on_every_machine():
    "Frozen: a change here makes every recorded run another run"
    df = invent([(f's{i:02d}', GENDERS[i % 2], AGESUB[i % 5], 1) for i in range(20)])
    a = split_speakers(df, (.6, .2, .2), seed=7)
    assert [a.speaker[a.split == s].tolist() for s in SPLITS[1:]] == [['s03', 's05', 's08', 's10'], ['s01', 's06', 's09', 's14']]


def test_majority_label_decides_the_stratum_and_order_does_not_break_ties():
    df = invent([('a', 'male', '20s', 1), ('a ', 'male', '20s', 1)])
    df = pd.concat([df, df.assign(utterance=['p', 'q'], agesub='30s')], ignore_index=True)
    from mkdcls.corpora import _strata
    assert _strata(df, 'speaker') == _strata(df[::-1], 'speaker') == {'a': 'male 20s', 'a ': 'male 20s'}


def test_deal_refuses_impossible_shares():
    for shares in [(.5, .6), (-.1, 1.1), ()]:
        with pytest.raises(ValueError, match='sum to 1'): deal({'a': 'x'}, shares)


def test_a_leaky_split_leaks_and_is_caught():
    df = invent([(f's{i}', GENDERS[i % 2], AGESUB[i % 5], 8) for i in range(20)])
    leak = split_speakers(df, by='utterance')
    assert leak.groupby('speaker').split.nunique().max() > 1
    with pytest.raises(ValueError, match='more than one split'): check_manifest(leak)
    assert check_manifest(leak, leaky=True) is leak


@pytest.mark.parametrize('damage,message', [
    (dict(gender=['male', 'x']), r"gender \['x'\] outside"),
    (dict(agesub='teens'), 'agesub'),
    (dict(agesup='60+'), 'not the parent'),
    (dict(utterance='u'), 'duplicate utterance'),
    (dict(duration=[1, np.nan]), '1 rows with an impossible duration'),
    (dict(duration=[1, -1.]), 'impossible duration'),
    (dict(duration=[1, np.inf]), 'impossible duration'),
    (dict(duration='2'), 'duration has dtype'),
    (dict(age=[3000., 30]), 'impossible age'),
    (dict(split='dev'), r"split \['dev'\]"),
    (dict(split=[None, 'test']), '1 rows without split'),
    (dict(speaker=''), '2 rows without speaker'),
    (dict(speaker='s', split=['train', 'test']), '1 speakers in more than one split')])
def test_every_damage_is_named(damage, message):
    good = invent([('a', 'male', '20s', 1), ('b', 'female', '30s', 1)]).assign(split='train')
    check_manifest(good)
    with pytest.raises(ValueError, match=message): check_manifest(good.assign(**damage))


@pytest.mark.parametrize('column', [*REQUIRED, 'split'])
def test_every_missing_column_is_named(column):
    good = invent([('a', 'male', '20s', 1)]).assign(split='train')
    with pytest.raises(ValueError, match=column): check_manifest(good.drop(columns=column))


@pytest.mark.parametrize('seconds,kept', [(.9, 0), (1, 1), (1.001, 1), (19.999, 1), (20, 1), (20.1, 0)])
def test_one_to_twenty_seconds_inclusive(tmp_path, seconds, kept):
    tone(tmp_path / 'a.wav', seconds)
    (tmp_path / 'l.csv').write_text('path,speaker_id,gender,age\na.wav,s,F,30\n')
    manifest, dropped = own_corpus(tmp_path / 'l.csv')
    assert len(manifest) == kept and sum(dropped.values()) == 1 - kept


def test_audio_reasons_are_counted_and_every_row_is_accounted_for(tmp_path):
    tone(tmp_path / 'ok.wav'); tone(tmp_path / 'two.wav', channels=2); tone(tmp_path / 'low.wav', rate=6000); (tmp_path / 'text.wav').write_text('no')
    files = ['ok.wav', 'two.wav', 'low.wav', 'text.wav', 'gone.wav', 'ok.wav']
    rows = pd.DataFrame({'utterance': files, 'speaker': list('abcdea'), 'path': [str(tmp_path / f) for f in files], 'age': 33, 'gender': 'f'})
    manifest, dropped = finish_manifest(rows, 'c')
    assert dropped == {'audio missing': 1, 'audio unreadable': 1, 'duplicate utterance': 1, 'rate below 8 kHz': 1, 'several channels': 1}
    assert len(manifest) + sum(dropped.values()) == len(rows)
    check_manifest(manifest, split=False)


def test_everything_dropped_is_no_crash_in_the_adapter_but_no_manifest(tmp_path):
    (tmp_path / 'l.csv').write_text('path,speaker_id,gender,age\na.wav,s,F,30\n')
    manifest, dropped = own_corpus(tmp_path / 'l.csv')
    assert (len(manifest), dropped) == (0, {'audio missing': 1})
    with pytest.raises(ValueError, match='no rows'): check_manifest(manifest, split=False)


@pytest.mark.parametrize('columns', ['client_id path sentence up_votes down_votes age gender accent locale segment',
                                     'client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment'])
def test_common_voice_quoting_and_columns(tmp_path, columns):
    columns = columns.split()
    def row(**k): return '\t'.join({'up_votes': '2', **k}.get(c, '') for c in columns)
    for n in 'abc': tone(tmp_path / 'xx' / 'clips' / f'{n}.mp3', 1.5, 44100)
    lines = ['\t'.join(columns), row(client_id='1', path='a.mp3', sentence='"so', age='nineties', gender='male_masculine'),
             row(client_id='NA', path='b.mp3', sentence="o'clock", age='fourties', gender='female'),
             row(client_id='3', path='c', sentence='so"', age='fifties', gender='male')]
    (tmp_path / 'xx' / 'validated.tsv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    for folder in (tmp_path, tmp_path / 'xx'):
        manifest, dropped = common_voice(folder)
        assert dropped == {} and manifest.agesub.tolist() == ['60s+', '40s', '50s'] and manifest.age.isna().all()
        assert manifest.speaker.tolist() == ['Common Voice/1', 'Common Voice/NA', 'Common Voice/3'] and set(manifest.language) == {'xx'}


def test_common_voice_names_a_list_without_labels(tmp_path):
    (tmp_path / 'xx').mkdir(); (tmp_path / 'xx' / 'validated.tsv').write_text('client_id\tpath\n')
    with pytest.raises(ValueError, match=r"xx/validated.tsv: columns \['age', 'gender'\]"): common_voice(tmp_path)


def test_one_voice_in_two_locales_is_one_speaker(tmp_path):
    for loc in ('aa', 'bb'):
        tone(tmp_path / loc / 'clips' / 'k.mp3', 1.5, 44100)
        (tmp_path / loc / 'validated.tsv').write_text('client_id\tpath\tage\tgender\ns\tk.mp3\ttwenties\tmale\n')
    manifest, _ = common_voice(tmp_path)
    assert manifest.speaker.nunique() == 1 and manifest.utterance.nunique() == 2


def test_own_corpus_from_parquet_with_numbers_and_two_corpora(tmp_path):
    tone(tmp_path / 'w' / 'a.flac', 9, 16000)
    d = pd.DataFrame({'path': 'w/a.flac', 'speaker_id': [1, 1, 2], 'gender': ['M', 'M', '여'], 'age': [25, 25, 61],
                      'start_s': [0, 3, np.nan], 'end_s': [3, 4.5, np.nan], 'corpus': ['k', 'k', 'l']})
    d.to_parquet(tmp_path / 'd.parquet')
    manifest, dropped = own_corpus(tmp_path / 'd.parquet')
    assert dropped == {} and manifest.duration.tolist() == [3, 1.5, 9] and manifest.speaker.tolist() == ['k/1', 'k/1', 'l/2']
    assert manifest.age.tolist() == [25, 25, 61] and manifest.rate.tolist() == [16000] * 3
    r = manifest.iloc[1]
    assert len(read_audio(r.path, start_s=r.start_s, end_s=r.end_s)) == 12000
    assert len(read_audio(manifest.path[2], start_s=np.nan, end_s=np.nan)) == 72000


def test_template_is_never_overwritten(tmp_path):
    own_template(tmp_path / 't.csv')
    with pytest.raises(ValueError, match='exists'): own_template(tmp_path / 't.csv')


def test_corpora_file_joins_and_names_the_role(tmp_path):
    a = invent([(f's{i}', GENDERS[i % 2], AGESUB[i % 5], 2) for i in range(30)])
    a.to_parquet(tmp_path / 'a.parquet')
    split_speakers(a.assign(utterance='z' + a.utterance, speaker='z' + a.speaker), seed=3).to_csv(tmp_path / 'b.csv', index=False)
    text = '[roles]\nFCVG = "a.parquet"\n"LTV+FCVE" = ["a.parquet", "b.csv"]\n"call centre" = "{}"\n[split]\nfractions = [0.6, 0.2, 0.2]\n'
    (tmp_path / 'r.toml').write_text(text.format('b.csv'))
    roles = corpora_file(tmp_path / 'r.toml')
    assert tuple(roles) == ROLES and [len(roles[r]) for r in ROLES] == [60, 120, 60]
    assert roles['FCVG'].drop_duplicates('speaker').split.value_counts().to_dict() == {'train': 18, 'val': 6, 'test': 6}
    (tmp_path / 'r.toml').write_text(text.replace('"a.parquet", "b.csv"', '"a.parquet", "a.parquet"').format('b.csv'))
    with pytest.raises(ValueError, match=r"role 'LTV\+FCVE'.*\n.*duplicate"): corpora_file(tmp_path / 'r.toml')
    (tmp_path / 'r.toml').write_text(text.format('gone.csv'))
    with pytest.raises(FileNotFoundError, match='gone.csv'): corpora_file(tmp_path / 'r.toml')


@pytest.mark.parametrize('rate', [8000, 11025, 16000, 44100, 48000])
def test_resampling_keeps_pitch_level_and_length(tmp_path, rate):
    tone(tmp_path / 'a.wav', 2, rate, 440)
    wave = read_audio(tmp_path / 'a.wav')
    assert wave.dtype == np.float32 and abs(len(wave) - 16000) <= 1
    peak = np.abs(np.fft.rfft(wave[2000:10000])).argmax()
    assert peak == 440 and abs(np.abs(wave[2000:14000]).max() - .2) < .003


def test_nothing_above_half_the_rate_folds_back(tmp_path):
    tone(tmp_path / 'a.wav', 1, 16000, 6000)
    assert np.abs(read_audio(tmp_path / 'a.wav')[400:7600]).max() < 1e-3


@real_only
def test_real_speech_in_its_roles():
    roles = real_roles(REAL, 2)
    cv, dropped = common_voice(REAL / 'common_voice')
    assert dropped == {'no age': 3, 'no gender': 100, 'other gender': 3, 'under 20': 15} and accent_archive(REAL / 'accent_archive')[1] == {}
    assert {r: (len(m), m.speaker.nunique()) for r, m in roles.items()} == {'FCVG': (1092, 364), 'LTV+FCVE': (1466, 822), 'call centre': (360, 206)}
    assert len({s for m in roles.values() for s in m.speaker.unique()}) == 364 + 1028
    for m in roles.values():
        assert set(m.split) == {'train', 'test'} and (m.split[m.fold == 2] == 'test').all() and set(m.gender[m.split == 'test']) == set(GENDERS)
        assert set(m.agesub[m.split == 'test']) == set(AGESUB)


@real_only
def test_the_recorded_selection_is_what_is_here():
    listing = ROOT / 'paper' / 'selection' / 'real.csv'
    assert len(check_selection(REAL, listing)) == 0
    pd.testing.assert_frame_equal(selection_list(real_roles(REAL), REAL), pd.read_csv(listing), check_dtype=False)


@real_only
def test_real_files_can_be_read():
    for m in real_roles(REAL).values():
        for r in m[::40].itertuples():
            wave = read_audio(r.path)
            assert np.isfinite(wave).all() and abs(len(wave) / 8000 - r.duration) < .1, r.utterance
