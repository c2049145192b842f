"Corpora: what a manifest may hold, splits that hold for any manifest, lists of one's own, roles"
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import soundfile as sf
from hypothesis import given, settings, strategies as st

from mkdcls.corpora import (MANIFEST, OPTIONAL, REQUIRED, ROLES, SPLITS, check_manifest, check_roles, checksum, corpora_file, deal, finish_manifest, label_reasons,
                            open_prepared, own_corpus, own_rows, own_template, read_audio, reasons, speaker_folds, split_speakers)
from mkdcls.labels import AGESUB, GENDERS, agesup_of, read_labels

ROOT = Path(__file__).resolve().parents[1]


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
    for index in (range(100, 100 + len(df)), [0] * len(df), df.utterance):
        assert split_speakers(df.set_index(pd.Index(index)), fractions, seed).split.tolist() == a.split.tolist()
    who = a.drop_duplicates('speaker')
    for s, f in zip(SPLITS, fractions):
        assert abs((who.split == s).sum() - f * len(who)) <= 1
        assert (who.groupby(['gender', 'agesub']).split.agg(lambda o, s=s, f=f: abs((o == s).sum() - f * len(o))) < 2).all()


KINDS = {'object': lambda s: s.astype(object), 'python strings': lambda s: s.astype('string[python]'), 'Arrow strings': lambda s: s.astype('string[pyarrow]'),
         'Arrow': lambda s: s.astype(pd.ArrowDtype(pyarrow.large_string())), 'categories': lambda s: s.astype('category'),
         'categories turned round, one unused': lambda s: pd.Categorical(s, categories=['unused', *sorted(set(s), reverse=True)])}


@settings(max_examples=60, deadline=None)
@given(people, st.integers(0, 2**32), st.sampled_from(list(KINDS)), st.sampled_from(['speaker', 'utterance']))
def test_split_and_check_are_blind_to_the_kind_of_column(speakers, seed, kind, by):
    df = invent(speakers)
    a = split_speakers(df, (.6, .2, .2), seed, by)
    other = df.assign(**{c: KINDS[kind](df[c]) for c in ('utterance', 'speaker', 'gender', 'agesub', 'agesup', 'corpus')})
    b = split_speakers(other, (.6, .2, .2), seed, by)
    assert b.split.tolist() == a.split.tolist() and speaker_folds(other, 3, seed).tolist() == speaker_folds(df, 3, seed).tolist()
    assert check_manifest(b, leaky=by == 'utterance') is b
    with pytest.raises(ValueError, match=r"gender \['x'\] outside"): check_manifest(b.assign(gender=KINDS[kind](pd.Series('x', b.index))), leaky=True)
    with pytest.raises(ValueError, match=r"duplicate utterance"): check_manifest(b.assign(utterance=KINDS[kind](pd.Series('x', b.index))), leaky=True)


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


def test_split_is_the_same_in_another_process_with_another_hash_seed():
    code = ("import pandas as pd; from mkdcls.corpora import split_speakers as f; n = [f's{i}' for i in range(40)]; "
            "print(''.join(f(pd.DataFrame(dict(utterance=n, speaker=n, gender='male', agesub=['20s', '50s'] * 20)), seed=3).split.str[1]))")
    out = {subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120,
                          env=os.environ | {'PYTHONHASHSEED': h, 'LC_ALL': 'C'}).stdout for h in '17'}
    assert len(out) == 1 and sorted(out.pop().strip()) == sorted('r' * 32 + 'a' * 4 + 'e' * 4)


def test_majority_label_decides_the_stratum_and_order_does_not_break_ties():
    df = invent([('a', 'male', '20s', 1), ('a ', 'male', '20s', 1)])
    df = pd.concat([df, df.assign(utterance=['p', 'q'], agesub='30s')], ignore_index=True)
    from mkdcls.corpora import strata_of
    assert strata_of(df, 'speaker') == strata_of(df[::-1], 'speaker') == {'a': 'male 20s', 'a ': 'male 20s'}
    more = pd.concat([df, df[2:3].assign(utterance='r'), df[:1].assign(utterance='s', gender='female')])
    assert strata_of(more, 'speaker') == {'a': 'male 30s', 'a ': 'male 20s'}


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
    (dict(agesub='60s+'), r"not the parent of agesub at \['a-0', 'b-0'\]"),
    (dict(utterance='u'), 'duplicate utterance'),
    (dict(duration=[1, np.nan]), '1 rows with an impossible duration'),
    (dict(duration=[1, -1.]), 'impossible duration'),
    (dict(duration=[1, np.inf]), 'impossible duration'),
    (dict(duration='2'), 'duration has dtype'),
    (dict(age=[3000., 30]), 'impossible age'),
    (dict(split='dev'), r"split \['dev'\]"),
    (dict(split=[None, 'test']), '1 rows without split'),
    (dict(speaker=''), '2 rows without speaker'),
    (dict(speaker='s', split=['train', 'test']), '1 speakers in more than one split'),
    (dict(gender=['', 'male']), '1 rows without gender'),
    (dict(age=['x', 'y']), 'age has dtype'),
    (dict(path=['a.wav', '']), '1 rows without path'),
    (dict(rate=[8000, 4000.]), '1 rows with an impossible rate'),
    (dict(start_s=[-1, np.nan]), 'impossible start_s'),
    (dict(end_s=[0, np.nan]), 'impossible end_s'),
    (dict(checksum=['0' * 64, 'A' * 64]), '1 rows with a checksum that is no SHA-256'),
    (dict(fold=[.5, 1]), 'impossible fold'),
    (dict(row=[-1, 0]), 'impossible row')])
def test_every_damage_is_named(damage, message):
    good = invent([('a', 'male', '20s', 1), ('b', 'female', '30s', 1)]).assign(split='train')
    check_manifest(good)
    with pytest.raises(ValueError, match=message): check_manifest(good.assign(**damage))


@pytest.mark.parametrize('column', [*REQUIRED, 'split'])
def test_every_missing_column_is_named(column):
    good = invent([('a', 'male', '20s', 1)]).assign(split='train')
    with pytest.raises(ValueError, match=column): check_manifest(good.drop(columns=column))


def test_everything_is_listed_at_once_with_counts_and_examples():
    good = invent([(f's{i}', 'male', '20s', 2) for i in range(10)]).assign(split='train')
    with pytest.raises(ValueError) as e: check_manifest(good.assign(gender='x', agesup='60+', duration=-1, split=['train', 'test'] * 10, age=500.))
    said = str(e.value).splitlines()
    assert said[0] == 'manifest: 5 problems:'
    assert said[1:] == ["- gender ['x'] outside ('female', 'male') at ['s0-0', 's0-1', 's1-0']; use labels.read_labels",
                        "- 20 rows with an impossible age, as at ['s0-0', 's0-1', 's1-0']", "- 20 rows with an impossible duration, as at ['s0-0', 's0-1', 's1-0']",
                        "- agesup is not the parent of agesub at ['s0-0', 's0-1', 's1-0']",
                        "- 10 speakers in more than one split, as ['s0', 's1', 's2', 's3']; split by speaker, not by utterance"]


def test_a_check_is_not_switched_off_from_outside(monkeypatch):
    from pandera.config import config_context
    good = invent([('a', 'male', '20s', 1)]).assign(split='train')
    with config_context(validation_enabled=False), pytest.raises(ValueError, match='gender'): check_manifest(good.assign(gender='x'))
    with config_context(validation_depth='SCHEMA_ONLY'), pytest.raises(ValueError, match='gender'): check_manifest(good.assign(gender='x'))


def test_every_column_is_described_and_the_lists_are_the_schema():
    assert all(len(c.description) > 10 for c in MANIFEST.columns.values())
    assert REQUIRED + OPTIONAL == tuple(MANIFEST.columns)
    assert {'split', 'path', 'rate', 'start_s', 'end_s', 'language', 'checksum', 'fold', 'shard', 'row'} <= set(OPTIONAL)


def test_neither_the_manifest_nor_its_index_is_touched():
    df = invent([('a', 'male', '20s', 3)]).assign(split='train', extra=1).set_index(pd.Index([5, 5, 2], name='at'))
    before = df.copy()
    assert check_manifest(df) is df
    pd.testing.assert_frame_equal(df, before)
    check_manifest(df.assign(split='nonsense'), split=False)
    with pytest.raises(ValueError, match=r"1 rows with an impossible duration, as at \['a-1'\]"): check_manifest(df.assign(duration=[1, -1., 1]))


@pytest.mark.parametrize('seconds,kept', [(.9, 0), (1, 1), (1.001, 1), (19.999, 1), (20, 1), (20.1, 0)])
def test_one_to_twenty_seconds_inclusive(tmp_path, seconds, kept):
    tone(tmp_path / 'a.wav', seconds)
    (tmp_path / 'l.csv').write_text('path,speaker_id,gender,age\na.wav,s,F,30\n')
    manifest, dropped = own_corpus(tmp_path / 'l.csv')
    assert len(manifest) == kept and len(dropped) == 1 - kept


@pytest.mark.parametrize('told,length,agree', [(1., 1.1, True), (1., 1.11, False), (2., 1.9, True), (2., 1.89, False),
                                               (10., 10.5, True), (10., 10.51, False), (10., 9.49, False)])
def test_a_label_may_be_off_by_a_tenth_of_a_second_or_a_twentieth(tmp_path, told, length, agree):
    tone(tmp_path / 'a.wav', length)
    rows = pd.DataFrame({'utterance': 'a', 'speaker': 's', 'path': str(tmp_path / 'a.wav'), 'age': 30, 'gender': 'f', 'told_s': [str(told)]})
    assert reasons(finish_manifest(rows, 'c')[1]) == ({} if agree else {'duration disagrees with the label': 1})
    assert len(finish_manifest(rows.assign(told_s=''), 'c')[0]) == len(finish_manifest(rows.assign(told_s=np.nan), 'c')[0]) == 1


def test_audio_reasons_are_listed_and_every_row_is_accounted_for(tmp_path):
    tone(tmp_path / 'ok.wav'); tone(tmp_path / 'two.wav', channels=2); tone(tmp_path / 'low.wav', rate=6000); tone(tmp_path / 'none.wav', seconds=0)
    (tmp_path / 'text.wav').write_text('no'); (tmp_path / 'empty.wav').write_bytes(b'')
    files = ['ok.wav', 'two.wav', 'low.wav', 'text.wav', 'gone.wav', 'ok.wav', 'empty.wav', 'none.wav']
    expected = ['several channels', 'rate below 8 kHz', 'not audio', 'audio missing', 'duplicate utterance', 'audio is empty', 'no samples']
    rows = pd.DataFrame({'utterance': files, 'speaker': list('abcdeafg'), 'path': [str(tmp_path / f) for f in files], 'age': 33, 'gender': 'f'})
    manifest, dropped = finish_manifest(rows, 'c')
    assert dropped.values.tolist() == [[f'c/{f}', str(tmp_path / f), why] for f, why in zip(files[1:], expected)]
    assert list(dropped) == ['utterance', 'path', 'reason'] and reasons(dropped) == dict.fromkeys(sorted(expected), 1)
    assert len(manifest) + len(dropped) == len(rows)
    check_manifest(manifest, split=False)
    with zipfile.ZipFile(tmp_path / 'c.zip', 'w') as z: [z.write(tmp_path / f, f'w/{f}') for f in dict.fromkeys(files) if f != 'gone.wav']
    zipped, out = finish_manifest(rows.assign(path=[str(tmp_path / 'c.zip' / 'w' / f) for f in files]), 'c')
    pd.testing.assert_frame_equal(zipped.drop(columns='path'), manifest.drop(columns='path'))
    assert out.reason.tolist() == dropped.reason.tolist()
    np.testing.assert_array_equal(read_audio(zipped.path[0]), read_audio(manifest.path[0]))
    assert checksum(zipped.path[0]) == checksum(manifest.path[0]) != checksum(tmp_path / 'two.wav')


def test_a_damaged_archive_is_a_reason(tmp_path):
    tone(tmp_path / 'a.wav')
    with zipfile.ZipFile(tmp_path / 'c.zip', 'w') as z: z.write(tmp_path / 'a.wav', 'a.wav')
    (tmp_path / 'c.zip').write_bytes((tmp_path / 'c.zip').read_bytes()[:2000])
    rows = pd.DataFrame({'utterance': 'a', 'speaker': 's', 'path': str(tmp_path / 'c.zip' / 'a.wav'), 'age': 30, 'gender': ['f']})
    assert reasons(finish_manifest(rows, 'c')[1]) == {'archive unreadable': 1}


@pytest.mark.parametrize('ages,far', [(['30', '40'], False), (['30', '40.5'], True), (['30', '41', 'fifties'], True),
                                      (['thirties', 'fifties'], False), (['19', '30'], True), (['30', ''], False)])
def test_ages_of_one_speaker_within_ten_years_are_one_person(ages, far):
    rows = pd.DataFrame({'utterance': range(len(ages) + 1), 'speaker': ['s'] * len(ages) + ['t'], 'age': [*ages, '70'], 'gender': 'f'})
    _, reason = label_reasons(rows)
    alone = label_reasons(rows.assign(speaker=rows.utterance))[1]
    assert reason.tolist() == [a or ('ages of one speaker far apart' if far and i < len(ages) else '') for i, a in enumerate(alone)]


def test_a_fault_of_the_label_file_comes_first():
    rows = pd.DataFrame({'utterance': ['a', 'a', 'b'], 'speaker': ['', 's', 's'], 'age': ['', '', '25'], 'gender': ['', '', 'f'],
                         'fault': ['label is not UTF-8', 'label is incomplete', '']})
    labels, reason = label_reasons(rows)
    assert reason.tolist() == ['label is not UTF-8', 'label is incomplete', ''] and labels.agesub.tolist()[2] == '20s'
    manifest, dropped = finish_manifest(rows.assign(path='gone.wav'), 'c')
    assert len(manifest) == 0 and reasons(dropped) == {'audio missing': 1, 'label is incomplete': 1, 'label is not UTF-8': 1}


fields = st.sampled_from(['', '25', '25세', '20대', '20(?)', 'teens', 'fourties', '1234', 'x', None, np.nan, 25, 61.5, 0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(fields, st.sampled_from(['', 'f', '남', 'other', 'x', None])), min_size=1, max_size=30), st.booleans())
def test_parsing_each_pair_once_is_parsing_each_row(rows, categories):
    df = pd.DataFrame({'age': pd.Series([a for a, _ in rows], dtype=object), 'gender': pd.Series([g for _, g in rows], dtype=object)}).assign(utterance=range(len(rows)))
    if categories: df = df.assign(gender=df.gender.astype('category'))
    labels, reason = label_reasons(df.assign(speaker=df.utterance))
    plain = read_labels(df.age, df.gender.astype(object))
    assert reason.tolist() == plain.reason.fillna('').tolist()
    pd.testing.assert_frame_equal(labels, plain.drop(columns='reason'))


def test_everything_dropped_is_no_crash_in_the_adapter_but_no_manifest(tmp_path):
    (tmp_path / 'l.csv').write_text('path,speaker_id,gender,age\na.wav,s,F,30\n')
    manifest, dropped = own_corpus(tmp_path / 'l.csv')
    assert (len(manifest), reasons(dropped)) == (0, {'audio missing': 1})
    with pytest.raises(ValueError, match='no rows'): check_manifest(manifest, split=False)


def test_own_corpus_from_parquet_with_numbers_and_two_corpora(tmp_path):
    tone(tmp_path / 'w' / 'a.flac', 9, 16000)
    d = pd.DataFrame({'path': 'w/a.flac', 'speaker_id': [1, 1, 2], 'gender': ['M', 'M', '여'], 'age': [25, 25, 61],
                      'start_s': [0, 3, np.nan], 'end_s': [3, 4.5, np.nan], 'corpus': ['k', 'k', 'l']})
    d.to_parquet(tmp_path / 'd.parquet')
    manifest, dropped = own_corpus(tmp_path / 'd.parquet')
    assert len(dropped) == 0 and manifest.duration.tolist() == [3, 1.5, 9] and manifest.speaker.tolist() == ['k/1', 'k/1', 'l/2']
    assert manifest.age.tolist() == [25, 25, 61] and manifest.rate.tolist() == [16000] * 3
    r = manifest.iloc[1]
    assert len(read_audio(r.path, start_s=r.start_s, end_s=r.end_s)) == 12000
    assert len(read_audio(manifest.path[2], start_s=np.nan, end_s=np.nan)) == 72000
    assert own_rows(tmp_path / 'd.parquet').utterance.tolist() == ['w/a.flac#0.0-3.0', 'w/a.flac#3.0-4.5', 'w/a.flac']


def test_template_is_never_overwritten(tmp_path):
    own_template(tmp_path / 't.csv')
    with pytest.raises(ValueError, match='exists'): own_template(tmp_path / 't.csv')


def people_of(n=30, mark=''): return invent([(f'{mark}{i}', GENDERS[i % 2], AGESUB[i % 5], 2) for i in range(n)])


def written(folder, text):
    (folder / 'r.toml').write_text(text)
    return corpora_file(folder / 'r.toml')


def test_corpora_file_joins_and_names_the_role(tmp_path):
    a, b = people_of(mark='s'), split_speakers(people_of(mark='z'), seed=3)
    a.to_parquet(tmp_path / 'a.parquet'); b.assign(rate=8000, start_s='', end_s='').to_csv(tmp_path / 'b.csv', index=False)
    text = '[roles]\nFCVG = "a.parquet"\nLTV = "a.parquet"\nFCVE = ["b.csv"]\n"call centre" = "b.csv"\n[split]\nfractions = [0.6, 0.2, 0.2]\n'
    roles = written(tmp_path, text)
    assert tuple(roles) == ROLES and [len(roles[r]) for r in ROLES] == [60, 120, 60]
    assert roles['FCVG'].drop_duplicates('speaker').split.value_counts().to_dict() == {'train': 18, 'val': 6, 'test': 6}
    both = roles['LTV+FCVE']
    assert both.corpus.tolist() == ['LTV'] * 60 + ['FCVE'] * 60 and set(both.source) == {'x'} and 'source' not in roles['FCVG'] and set(roles['FCVG'].corpus) == {'x'}
    pd.testing.assert_frame_equal(both[:60].drop(columns=['corpus', 'source', 'rate', 'start_s', 'end_s']), roles['FCVG'].drop(columns='corpus'), check_dtype=False)
    alone = written(tmp_path, text.replace('FCVE = ["b.csv"]\n', ''))
    assert tuple(alone) == ROLES and set(alone['LTV+FCVE'].corpus) == {'LTV'} and len(alone['LTV+FCVE']) == 60
    with pytest.raises(ValueError, match=r"role 'LTV\+FCVE'.*\n.*duplicate"): written(tmp_path, text.replace('["b.csv"]', '"a.parquet"'))
    with pytest.raises(FileNotFoundError, match='gone.csv'): written(tmp_path, text.replace('b.csv', 'gone.csv'))


@pytest.mark.parametrize('old,new,message', [
    ('LTV = ', '"LTV+FCVE" = ', 'LTV = ... and, if there is one, FCVE = ...'),
    ('LTV = "a.parquet"\n', '', r"nothing for \['LTV'\]"),
    ('LTV = ', 'LTV2 = ', r"\['LTV2'\] unknown"),
    ('seed', 'sede', r"\['sede'\] unknown"),
    ('LTV = "a.parquet"', 'LTV = []', r"\['LTV'\] should name a path"),
    ('LTV = "a.parquet"', 'LTV = {a = 1}', r"\['LTV'\] should name a path"),
    ('"call centre"', 'call centre', 'not TOML')])
def test_a_wrong_corpora_file_says_what_to_write(tmp_path, old, new, message):
    people_of().to_parquet(tmp_path / 'a.parquet')
    text = '[roles]\nFCVG = "a.parquet"\nLTV = "a.parquet"\n"call centre" = "a.parquet"\n[split]\nseed = 1\n'
    written(tmp_path, text)
    with pytest.raises(ValueError, match=message): written(tmp_path, text.replace(old, new))


def test_nobody_changes_sides_between_roles(tmp_path):
    a = people_of(40)
    a.to_parquet(tmp_path / 'a.parquet'); a[2:].to_parquet(tmp_path / 'less.parquet'); split_speakers(a)[2:].to_parquet(tmp_path / 'kept.parquet')
    text = '[roles]\nFCVG = "a.parquet"\nLTV = "{}"\n"call centre" = "a.parquet"\n'
    with pytest.raises(ValueError, match='speakers change sides between roles.*Use the same manifest'): written(tmp_path, text.format('less.parquet'))
    roles = written(tmp_path, text.format('kept.parquet'))
    assert check_roles(roles) is roles
    trained, tested = ({s for m in roles.values() for s in m.speaker[m.split == part]} for part in ('train', 'test'))
    assert not trained & tested
    swapped = {r: m.assign(split=m.split.replace({'val': 'test', 'test': 'val'})) if r == 'FCVG' else m for r, m in roles.items()}
    with pytest.raises(ValueError, match='8 speakers change sides'): check_roles(swapped)


def test_a_prepared_folder_plays_a_role_or_all_of_them(tmp_path):
    m = split_speakers(people_of()).assign(path='x.zip/a.wav', row=range(60), shard=['00000.arrow'] * 40 + ['00001.arrow'] * 20, checksum='0' * 64, rate=16000)
    (tmp_path / 'p').mkdir(); m.to_parquet(tmp_path / 'p' / 'manifest.parquet', index=False)
    d = open_prepared(tmp_path / 'p')
    assert d.path.tolist() == [str(tmp_path / 'p' / 'audio' / s) for s in m['shard']] and d['row'].tolist() == list(range(60))
    roles = corpora_file(tmp_path / 'p')
    assert tuple(roles) == ROLES and all(o.split.tolist() == m.split.tolist() and o.path.tolist() == d.path.tolist() for o in roles.values())
    assert set(roles['LTV+FCVE'].corpus) == {'LTV'} and set(roles['LTV+FCVE'].source) == {'x'}
    people_of(mark='z').assign(path='a.wav').to_parquet(tmp_path / 'b.parquet')
    mixed = written(tmp_path, '[roles]\nFCVG = "p"\nLTV = "p"\nFCVE = "b.parquet"\n"call centre" = ["p"]\n')
    assert mixed['LTV+FCVE']['row'].isna().sum() == 60 and mixed['FCVG'].split.tolist() == m.split.tolist()
    with pytest.raises(FileNotFoundError, match='no manifest.parquet in'): corpora_file(tmp_path)
    m.drop(columns='row').to_parquet(tmp_path / 'p' / 'manifest.parquet')
    with pytest.raises(ValueError, match=r"columns \['row'\] are missing"): corpora_file(tmp_path / 'p')


def test_rows_that_cannot_be_used_are_not_lost_in_silence(tmp_path):
    for i in range(20): tone(tmp_path / f'{i}.wav')
    lines = [f'{i}.wav,{i},{"FM"[i % 2]},{25 + 10 * (i % 2)}' for i in range(20)]
    (tmp_path / 'l.csv').write_text('\n'.join(['path,speaker_id,gender,age', *lines, 'gone.wav,g,F,30', '0.wav#,h,F,15']) + '\n')
    with pytest.warns(UserWarning, match=r"l.csv: 2 of 22 rows cannot be used, \{'audio missing': 1, 'under 20': 1\}; `mkdcls validate l.csv`"):
        written(tmp_path, '[roles]\nFCVG = "l.csv"\nLTV = "l.csv"\n"call centre" = "l.csv"\n')


def test_many_rows_take_little(tmp_path):
    "Checked, split, stored, opened: time and memory are measured in the benchmark; here only that nothing walks over rows"
    n = 20_000
    df = pd.DataFrame({'utterance': [f'u{i}' for i in range(n)], 'speaker': [f's{i % 500}' for i in range(n)], 'gender': [GENDERS[i % 2] for i in range(n)],
                       'age': np.nan, 'agesub': [AGESUB[i % 5] for i in range(n)], 'corpus': 'c', 'duration': 2.})
    df['agesup'] = df.agesub.map(agesup_of)
    calls = 0
    def watch(frame, event, arg):
        nonlocal calls
        calls += event == 'call'
    sys.setprofile(watch)
    try: check_manifest(split_speakers(df))
    finally: sys.setprofile(None)
    assert calls < n


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
