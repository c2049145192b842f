"Validation: every fault of the list injected and found, and nothing else; clean sound is clean; real speech where it is"
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import example, given, settings, strategies as st

from mkdcls.adapters import read_corpus
from mkdcls.corpora import label_reasons, read_audio
from mkdcls.engine.archives import Tree
from mkdcls.labels import AGESUB, GENDERS
from mkdcls.validation import (CLIPPED, FAULTS, NOTES, advice, clipped_share, cross_check, cross_details, inspect_audio, is_fault, report_text,
                               to_int16)

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get('MKDCLS_REAL') or ROOT.parent / 'shared' / 'data')
real_only = pytest.mark.skipif(not (REAL / 'common_voice').is_dir(),
                               reason='no real speech here: set MKDCLS_REAL to a folder with common_voice/ and accent_archive/')
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def hum(seconds=2., rate=8000, seed=0):
    "Something like speech: syllables of a buzz, with noise, peak about one half"
    g, t = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    pitch = g.uniform(90, 220)
    wave = sum(np.sin(2 * np.pi * k * pitch * t + g.uniform(0, 6)) / k for k in range(1, 8))
    wave = wave * (1.1 + np.sin(2 * np.pi * g.uniform(2, 5) * t)) + .05 * g.standard_normal(len(t))
    return (.5 * wave / np.abs(wave).max()).astype(np.float32)


def put(path, wave, rate=8000, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, rate, **kw)
    return path


def cut(path, keep, to=None):
    to = to or path
    to.write_bytes(path.read_bytes()[:int(keep)])
    return to


def as_read(path, **kw): return read_audio(path, **kw) * np.float32(2**15)


# ---- one file

def spoil(t):
    "Files by name, with the reason each must get"
    w, junk = hum(), np.random.default_rng(0).bytes(5000)
    put(t / 'header.wav', w[:0]); put(t / 'nan.wav', np.where(np.arange(16000) == 77, np.nan, w), subtype='FLOAT')
    put(t / 'inf.wav', np.where(np.arange(16000) == 15999, -np.inf, w), subtype='DOUBLE'); put(t / 'silent.flac', 0 * w); put(t / 'silent.mp3', np.zeros(96000), 48000)
    put(t / 'constant.wav', 0 * w - .3); put(t / 'faint.wav', w * 1e-6, subtype='FLOAT')
    put(t / 'hiss.wav', .3 * np.hanning(96000) * np.sin(np.arange(96000) * 2.9), 48000, subtype='FLOAT')
    put(t / 'loud.wav', np.clip(w * 12, -1, 1)); put(t / 'loud.mp3', np.clip(hum(2, 48000) * 40, -1, 1), 48000)
    put(t / 'ulaw.wav', np.clip(w * 12, -1, 1), subtype='ULAW')
    put(t / 'alaw.wav', np.clip(w * 12, -1, 1), subtype='ALAW'); put(t / 'stereo.wav', np.stack([w, -w], 1)); put(t / 'slow.wav', w, 7999); put(t / 'short.wav', w[:7999])
    put(t / 'long.wav', hum(20.001)); put(t / 'long.mp3', hum(20.2, 16000), 16000); put(t / 'one.wav', w[:8000]); put(t / 'twenty.flac', hum(20))
    (t / 'empty.mp3').write_bytes(b''); (t / 'page.mp3').write_text('<html>' * 99); (t / 'noise.wav').write_bytes(junk); (t / 'zeros.mp3').write_bytes(bytes(9000))
    (t / 'film.wav').write_bytes(b'RIFF' + struct.pack('<I', 5000) + b'AVI ' + bytes(5000)); (t / 'bare.raw').write_bytes(junk)
    for k in ('wav', 'flac', 'mp3', 'ogg', 'aiff', 'au'): cut(put(t / f'half.{k}', hum(3, 16000), 16000), (t / f'half.{k}').stat().st_size / 2)
    return dict.fromkeys(('one.wav', 'twenty.flac'), '') | {
        'gone.wav': 'audio missing', 'header.wav/x.wav': 'audio missing', 'empty.mp3': 'audio is empty', 'header.wav': 'no samples',
        **dict.fromkeys(('page.mp3', 'noise.wav', 'zeros.mp3', 'film.wav', 'bare.raw'), 'not audio'), 'nan.wav': 'NaN or infinity', 'inf.wav': 'NaN or infinity',
        **dict.fromkeys(('silent.flac', 'silent.mp3', 'constant.wav', 'faint.wav', 'hiss.wav'), 'digital silence'),
        **dict.fromkeys(('loud.wav', 'loud.mp3', 'ulaw.wav', 'alaw.wav'), 'clipped'), 'stereo.wav': 'several channels', 'slow.wav': 'rate below 8 kHz',
        'short.wav': 'shorter than 1 s', 'long.wav': 'longer than 20 s', 'long.mp3': 'longer than 20 s',
        **{f'half.{k}': 'audio is truncated' for k in ('wav', 'flac', 'mp3', 'ogg', 'aiff', 'au')}}


def test_every_fault_of_a_file_is_named_in_folder_and_archive(tmp_path):
    t = tmp_path / 't'; t.mkdir(); expected = spoil(t)
    found = {n: inspect_audio(str(t / n)) for n in expected}
    assert {n: r for n, (_, _, r) in found.items()} == expected
    for wave, facts, reason in found.values():
        assert (wave is None) == (reason != '') and set(facts) == {'duration', 'source_rate', 'channels', 'clipped', 'sha256', 'detail'}
        assert str(tmp_path) not in facts['detail'] and (facts['sha256'] == '') == (reason != '')
    del expected['header.wav/x.wav']
    with zipfile.ZipFile(tmp_path / 'z.zip', 'w') as z: [z.write(f, f'in/{f.name}') for f in sorted(t.iterdir())]
    assert {n: inspect_audio(str(tmp_path / 'z.zip' / 'in' / n))[2] for n in expected} == expected
    torn = cut(tmp_path / 'z.zip', 3000, tmp_path / 'torn.zip')
    assert inspect_audio(str(torn / 'in' / 'one.wav'))[2] == 'archive unreadable'


@pytest.mark.parametrize('told,reason', [(2, ''), (2.09, ''), (1.91, ''), (math.nan, ''), *((s, 'duration disagrees with the label') for s in (2.2, 1.8, 0))])
@pytest.mark.parametrize('kind,rate', [('wav', 8000), ('mp3', 48000)])
def test_told_duration(tmp_path, kind, rate, told, reason):
    assert inspect_audio(put(tmp_path / f'a.{kind}', hum(2, rate), rate), told_s=told)[2] == reason


@pytest.mark.parametrize('seconds,kept', [((.5, 3), True), ((2, 2), True), ((2.01, 3), False), ((.5, 1.99), False)])
def test_other_limits_and_rates(tmp_path, seconds, kept):
    wave, facts, reason = inspect_audio(put(tmp_path / 'a.wav', hum(2, 32000), 32000), seconds=seconds, rate=16000)
    assert (wave is not None) == kept and (reason == '' or reason.startswith(('shorter than 2.01 s', 'longer than 1.99 s')))
    if kept: np.testing.assert_array_equal(wave, as_read(tmp_path / 'a.wav', rate=16000))
    assert inspect_audio(put(tmp_path / 'b.wav', hum()), rate=16000)[2] == 'rate below 16 kHz'


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(8000, 48000), st.floats(1.02, 3), st.floats(.01, .9), st.sampled_from(('wav', 'flac', 'mp3', 'ogg', 'aiff')), st.booleans())
def test_clean_sound_is_clean_and_bit_equal_to_read_audio(tmp_path_factory, seed, rate, seconds, level, kind, tone):
    if kind == 'mp3': rate = min(MP3_RATES, key=lambda r: abs(r - rate))
    w = level * np.sin(2 * np.pi * (60 + 30 * seed) * np.arange(round(seconds * rate)) / rate) if tone else 2 * level * hum(seconds, rate, seed)
    p = put(tmp_path_factory.mktemp('c') / f'a.{kind}', w, rate)
    wave, facts, reason = inspect_audio(p, told_s=seconds)
    assert (reason, facts['detail'], facts['source_rate'], facts['channels']) == ('', '', rate, 1) and facts['clipped'] < CLIPPED / 10
    assert wave.dtype == np.int16 and facts['sha256'] == hashlib.sha256(wave.astype('<i2').tobytes()).hexdigest() and abs(facts['duration'] - seconds) < .1
    np.testing.assert_array_equal(wave, as_read(p))


@settings(max_examples=40, deadline=None)
@example(.06, 1., ('wav', 11025))  # both ends are rounded, and 11,024 samples are left
@given(st.floats(0, 3), st.floats(1, 2.9), st.sampled_from((('wav', 11025), ('flac', 44100), ('mp3', 16000), ('ogg', 32000))))
def test_segments_are_those_of_read_audio(tmp_path_factory, start, length, form):
    kind, rate = form
    p = put(tmp_path_factory.mktemp('s') / f'a.{kind}', hum(6, rate), rate)
    wave, facts, reason = inspect_audio(p, start, start + length)
    assert reason == '' and abs(facts['duration'] - length) < 1e-3
    np.testing.assert_array_equal(wave, as_read(p, start_s=start, end_s=start + length))
    np.testing.assert_array_equal(inspect_audio(p, start_s=3.)[0], as_read(p, start_s=3.))
    np.testing.assert_array_equal(inspect_audio(p, end_s=3.)[0], as_read(p, end_s=3.))


OUTSIDE = [(span, 'segment outside the audio') for span in ((8, 10.01), (-.01, 3), (3, 3), (4, 3), (10, 12))]
@pytest.mark.parametrize('span,reason', [((1, 3), ''), ((9, 9.5), 'shorter than 1 s'), ((8, 10), ''), ((8, 10.0009), ''), ((0, 10), ''), *OUTSIDE])
def test_segment_bounds(tmp_path, span, reason): assert inspect_audio(put(tmp_path / 'a.wav', hum(10)), *span)[2] == reason


def test_a_segment_of_a_long_recording_is_no_long_utterance(tmp_path):
    p = put(tmp_path / 'a.flac', np.tile(hum(30), 4))
    assert inspect_audio(p)[2] == 'longer than 20 s' and inspect_audio(p, 100., 105.)[2] == '' and inspect_audio(p, 100.)[2] == ''
    whole = put(tmp_path / 'b.wav', np.tile(hum(30), 4)); lost = cut(whole, 44 + 16000 * 60, tmp_path / 'c.wav')
    assert [inspect_audio(lost, a, a + 5.)[2] for a in (1, 55, 57, 70)] == ['', '', 'audio is truncated', 'audio is truncated']
    np.testing.assert_array_equal(inspect_audio(lost, 55., 60.)[0], inspect_audio(whole, 55., 60.)[0])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(('wav', 'aiff', 'au', 'flac', 'mp3', 'ogg')), st.sampled_from((8000, 16000, 44100)), st.floats(.3, .97))
def test_a_lost_end_is_found_wherever_it_was_lost(tmp_path_factory, kind, rate, keep):
    p = put(tmp_path_factory.mktemp('t') / f'a.{kind}', hum(3, rate), rate)
    assert inspect_audio(cut(p, p.stat().st_size * keep), told_s=3.)[2] == 'audio is truncated'


@pytest.mark.parametrize('size', [0xffffffff, 0x7fffffff, 0x7ffff000, 32000 + 44, 32000 + 36])
def test_a_wav_writer_that_did_not_know_the_length_is_forgiven(tmp_path, size):
    p = put(tmp_path / 'a.wav', hum()); d = bytearray(p.read_bytes()); d[40:44] = struct.pack('<I', size); p.write_bytes(d)
    assert inspect_audio(p)[2] == '' and inspect_audio(p)[1]['duration'] == 2


def test_chunks_around_the_samples_are_no_fault(tmp_path):
    d = put(tmp_path / 'a.wav', hum()).read_bytes(); other = b'LIST' + struct.pack('<I', 7) + b'INFOabc\0'
    for b in (d[:12] + other + d[12:], d + other, d[:36] + other * 5 + d[36:]): (tmp_path / 'b.wav').write_bytes(b); assert inspect_audio(tmp_path / 'b.wav')[2] == ''
    (tmp_path / 'b.wav').write_bytes(d[:12] + other + d[12:20000]); assert inspect_audio(tmp_path / 'b.wav')[2] == 'audio is truncated'
    for k in (14, 30, 43, 44, 60): assert inspect_audio(cut(tmp_path / 'a.wav', k, tmp_path / 'c.wav'))[2] == 'audio is truncated'


@pytest.mark.parametrize('subtype', ['PCM_U8', 'PCM_16', 'PCM_24', 'PCM_32', 'FLOAT', 'DOUBLE', 'ULAW', 'ALAW', 'GSM610', 'G721_32', 'IMA_ADPCM', 'MS_ADPCM'])
def test_telephone_codes_are_read_whole_and_in_part(tmp_path, subtype):
    p = put(tmp_path / 'a.wav', hum(3), subtype=subtype); wave, facts, reason = inspect_audio(p)
    assert reason == '' and facts['clipped'] == 0 and len(wave) >= 24000
    np.testing.assert_array_equal(inspect_audio(p, 1., 2.5)[0], wave[8000:20000])
    assert inspect_audio(cut(p, p.stat().st_size / 2))[2] == 'audio is truncated'


# ---- MP3

def frames(d, skip=0):
    "Where the frames of an MP3 made by libsndfile begin"
    from mkdcls.validation import mp3_frame_bytes
    at, out = skip, [skip]
    while at + 4 <= len(d) and (step := mp3_frame_bytes(int.from_bytes(d[at:at + 4], 'big'))): at += step; out.append(at)
    return out


@pytest.mark.parametrize('rate', MP3_RATES)
@pytest.mark.parametrize('mode', ['CONSTANT', 'AVERAGE', 'VARIABLE'])
def test_mp3_frames(tmp_path, rate, mode):
    p = put(tmp_path / 'a.mp3', hum(3, rate), rate, bitrate_mode=mode); d = p.read_bytes(); at = frames(d); q = tmp_path / 'b.mp3'
    def says(b): q.write_bytes(b); return inspect_audio(q)[2]
    assert at[-1] == len(d) and says(d) == ''
    id3 = b'ID3\4\0\0\0\0\2\1' + bytes(257)
    assert {says(id3 + d), says(d + b'TAG' + bytes(125)), says(d + bytes(500)), says(id3 + d + b'APETAGEX' + bytes(80))} == {''}
    lost = d[:at[-1] - 1], d[:at[-2] + 2], d[:at[len(at) // 2]], id3 + d[:at[20] + 30], d[:at[20]] + bytes(at[23] - at[20]) + d[at[23]:]
    assert {says(b) for b in lost} == {'audio is truncated'}
    bare = d[at[1]:]; estimate = sf.info(io.BytesIO(bare)).frames / rate
    assert says(bare) == ('' if estimate > 2.7 else 'audio is truncated'), 'without a count the length is guessed; a guess that loses the end is a fault'
    assert says(bare[:at[20] - at[1] + 9]) == 'audio is truncated'


def test_flac_without_a_length_is_not_called_long(tmp_path):
    p = put(tmp_path / 'a.flac', hum()); d = bytearray(p.read_bytes()); d[21] &= 0xf0; d[22:26] = bytes(4); p.write_bytes(d)
    assert inspect_audio(p)[2] == 'audio is truncated'


# ---- clipping

def slow_share(wave):
    top, n, hit = max(abs(wave)), len(wave), set()
    if top < .98: return 0
    for i in range(n - 2):
        if all(abs(wave[j]) >= min(top, 1) - 2**-15 for j in range(i, i + 3)): hit |= {i, i + 1, i + 2}
    return len(hit) / n


@settings(deadline=None)
@given(st.lists(st.sampled_from((0., .5, .97, .985, 1., -1., 1.3)), min_size=3, max_size=30))
def test_clipped_share_is_what_it_says(values): assert clipped_share(np.array(values, np.float32)) == pytest.approx(slow_share(np.array(values, np.float32)))


def test_loud_is_not_clipped(tmp_path):
    w = hum(3, 16000); w = w / np.abs(w).max()
    for name, wave in {'a.wav': w, 'b.flac': np.round(w * 32767) / 32768}.items(): assert inspect_audio(put(tmp_path / name, wave, 16000))[1:][1] == ''
    rising = [clipped_share(np.clip(w * 10**(db / 20), -1, 1)) for db in range(0, 30, 3)]
    assert rising == sorted(rising) and rising[0] == 0 and rising[-1] > .2


def test_to_int16_saturates(): assert to_int16(np.array([2, -2, .5, 1 / 65536, 3 / 65536], np.float32), 8000).tolist() == [32767, -32768, 16384, 0, 2]


# ---- labels, paths

def aihub(root, number, who, gender='여', age=34, wave=True, text=None, encoding='utf-8', rate=16000, told=None):
    "One utterance of AI-Hub 109; wave: True, None (no file), an array, or bytes"
    folder = f'일반남여_일반통합05_{"M" if gender == "남" else "F"}_{who}_{age}_수도권_실내'; stem = f'{folder}_{number:05d}'
    label, audio = (root / '자유대화 음성(일반남녀)' / 'Training' / p / folder for p in ('[라벨]3.스튜디오', '[원천]3.스튜디오_1'))
    label.mkdir(parents=True, exist_ok=True); audio.mkdir(parents=True, exist_ok=True)
    if wave is True: wave = hum(2, rate, number)
    if isinstance(wave, bytes): (audio / f'{stem}.wav').write_bytes(wave)
    elif wave is not None: sf.write(audio / f'{stem}.wav', wave, rate)
    said = {'발화정보': {'fileNm': f'{stem}.wav', 'recrdTime': str(told or 2.0)}, '녹음자정보': {'gender': gender, 'recorderId': who, 'age': age}}
    (label / f'{stem}.json').write_bytes((text or json.dumps(said, ensure_ascii=False)).encode(encoding))
    return audio / f'{stem}.wav', label / f'{stem}.json'


def judge(rows):
    "What `mkdcls prepare` does with rows, in one process and without writing: number of the utterance → reason"
    labels, reason = label_reasons(rows)
    d = rows.drop(columns=list(labels), errors='ignore').join(labels).assign(reason=reason, sha256='', source_rate=np.nan)
    for i in d.index[d.reason == '']:
        wave, facts, d.loc[i, 'reason'] = inspect_audio(d.path[i], told_s=d.told_s[i])
        d.loc[i, ['sha256', 'source_rate']] = facts['sha256'], facts['source_rate']
    good = d[d.reason == '']; why = cross_check(good)
    d.loc[good.index, 'reason'] = why
    return dict(zip(d.utterance.str.extract(r'_(\d{5})\.')[0].astype(int), d.reason))


def test_a_spoiled_copy_names_every_spoiled_file_and_nothing_else(tmp_path):
    t, w, n = tmp_path / 'fcvg', hum(2, 16000, 99), iter(range(1, 999))
    expected = {}
    def add(reason, who, **kw): i = next(n); expected[i] = reason; return aihub(t, i, who, **kw)
    for who in range(8): [add('', f's{who}', gender='남여'[who % 2], age=20 + 6 * who) for _ in range(3)]
    add('label is not UTF-8', 's1', encoding='cp949'); add('label is not JSON', 's1', text='{"발화정보": {"stt"'); add('label is incomplete', 's1')[1].unlink()
    add('under 20', 'young', age=19); add('impossible age', 'old', age=1234); add('unclear gender', 'x', text=json.dumps({'녹음자정보': {'gender': '남'}}))
    add('audio missing', 's2', gender='남', age=32, wave=None); add('audio is empty', 's2', gender='남', age=32, wave=b'')
    add('not audio', 's3', age=38, wave=b'PK\3\4' + bytes(3000))
    add('audio is truncated', 's3', age=38, wave=put(tmp_path / 'w.wav', w, 16000).read_bytes()[:20000]); add('no samples', 's3', age=38, wave=w[:0])
    bad = {'digital silence': 0 * w, 'clipped': np.clip(30 * w, -1, 1), 'several channels': np.stack([w, w], 1)}
    for reason, wave in bad.items(): add(reason, 's4', gender='남', age=44, wave=wave)
    add('rate below 8 kHz', 's5', age=50, rate=6000); add(NOTES[0], 's5', age=50, rate=8000); add('duration disagrees with the label', 's5', age=50, told=9.9)
    add('shorter than 1 s', 's6', gender='남', age=56, wave=w[:15000], told=.94); add('longer than 20 s', 's6', gender='남', age=56, wave=np.tile(w, 11), told=22)
    add('', 's7', age=62, wave=w); add('same sound under two names', 's7', age=62, wave=w)
    for who, age in (('d1', 30), ('d2', 40)): add('same sound under two labels', who, age=age, wave=w[::-1])
    for g in '남여': add('speaker with two genders', 'two', gender=g)
    for age in (30, 41): add('ages of one speaker far apart', 'aged', age=age)
    wave = np.where(np.arange(32000) == 5, np.nan, w); path, _ = add('NaN or infinity', 's7', age=62); sf.write(path, wave, 16000, subtype='FLOAT')
    assert judge(read_corpus('aihub109', t)) == expected
    with zipfile.ZipFile(tmp_path / 'fcvg.zip', 'w') as z:  # names as macOS writes them
        for f in sorted(t.rglob('*')):
            if f.is_file(): z.write(f, normalize('NFD', f.relative_to(t).as_posix()))
    assert judge(read_corpus('aihub109', tmp_path / 'fcvg.zip')) == expected


def test_sub_and_super_class_in_conflict(tmp_path):
    put(tmp_path / 'a.wav', hum(9)); (tmp_path / 'l.csv').write_text('path,speaker_id,gender,age,agesub,agesup,start_s,end_s\n' + '\n'.join(
        f'a.wav,{i},f,{said},{i},{i + 1.5}' for i, said in enumerate(('25,20s,20-30', '25,30s,', ',30s,60+', ',,'))))
    assert label_reasons(read_corpus('own', tmp_path / 'l.csv'))[1].tolist() == ['', 'age and agesub disagree', 'agesup and agesub disagree', 'no age']


def test_paths_and_bombs_are_named_by_the_tree(tmp_path):
    put(tmp_path / 'a.wav', hum())
    with zipfile.ZipFile(tmp_path / 'z.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        z.write(tmp_path / 'a.wav', 'ok.wav'); z.write(tmp_path / 'a.wav', '../out.wav'); z.writestr('bomb.wav', bytes(80_000_000))
    tree = Tree(tmp_path / 'z.zip')
    assert {(n, r) for n, r, _ in tree.faults} == {('../out.wav', 'path outside the corpus'), ('bomb.wav', 'decompression bomb')}
    assert [inspect_audio(tmp_path / 'z.zip' / n)[2] for n in ('ok.wav', 'bomb.wav')] == ['', 'decompression bomb']
    assert all(r in FAULTS for _, r, _ in tree.faults)


# ---- all rows together

def slow_check(rows):
    "The rules of `cross_check`, row by row"
    out, seen = [], set()
    for r in rows:
        same = [o for o in rows if o['speaker'] == r['speaker']]
        def low(o): return o['age'] if o['age'] == o['age'] else 20 + 10 * AGESUB.index(o['agesub'])
        def high(o): return o['age'] if o['age'] == o['age'] else 120 if o['agesub'] == '60s+' else low(o) + 9.99
        first = {o['utterance']: o for o in reversed(rows)}.values()
        twins = [o for o in first if o['sha256'] and o['sha256'] == r['sha256']]
        if r['utterance'] in seen: why = 'duplicate utterance'
        elif len({o['gender'] for o in same}) > 1: why = 'speaker with two genders'
        elif max(map(low, same)) - min(map(high, same)) > 10: why = 'ages of one speaker far apart'
        elif len({(o['speaker'], o['gender'], o['agesub']) for o in twins}) > 1: why = 'same sound under two labels'
        elif len(twins) > 1 and r['utterance'] != min(o['utterance'] for o in twins): why = 'same sound under two names'
        else: why = ''
        seen.add(r['utterance']); out.append(why)
    return out


people = st.fixed_dictionaries(dict(utterance=st.sampled_from('abcdefghijkl'), speaker=st.sampled_from('stuv'), gender=st.sampled_from(GENDERS + ('female',) * 4),
    age=st.sampled_from((math.nan, math.nan, 25., 33., 36., 58., 64.)),
    agesub=st.sampled_from(AGESUB), sha256=st.sampled_from(('', '', '1', '2', '3', '4', '5', '6'))))


@settings(max_examples=300, deadline=None)
@given(st.lists(people, min_size=1, max_size=10))
def test_cross_check_is_its_rules(rows):
    d = pd.DataFrame(rows, index=range(100, 100 + len(rows)))
    why = cross_check(d)
    assert why.tolist() == slow_check(rows) and why.index.equals(d.index)
    details = cross_details(d, why)
    assert ((details != '') == why.isin(('speaker with two genders', 'ages of one speaker far apart', 'same sound under two labels', 'same sound under two names'))).all()
    if d.utterance.is_unique: pd.testing.assert_series_equal(cross_check(d[::-1])[::-1], why)


def test_rates_are_noted_where_the_corpus_has_one():
    d = pd.DataFrame({'utterance': list('abcdef'), 'speaker': list('abcdef'), 'gender': 'male', 'age': np.nan, 'agesub': '20s', 'sha256': list('abcdef')})
    d['corpus'] = list('xxxxyy')
    assert cross_check(d.assign(source_rate=[16e3, 16e3, 16e3, 8e3, 8e3, 8e3])).tolist() == ['', '', '', NOTES[0], '', '']
    assert set(cross_check(d.assign(source_rate=[16e3, 16e3, 8e3, 8e3, 8e3, 48e3]))) == {''}
    assert cross_check(d[:0].assign(source_rate=0.)).tolist() == []


# ---- the report

def table(n=60, seed=0):
    g = np.random.default_rng(seed)
    d = pd.DataFrame({'utterance': [f'clip|{i:03d}.wav' for i in range(n)], 'path': [f'clips/{i:03d}.wav' for i in range(n)], 'speaker': [f's{i % 17}' for i in range(n)],
        'gender': g.choice(GENDERS, n), 'agesub': g.choice(AGESUB[:4], n), 'duration': 2., 'split': g.choice(('train', 'val', 'test'), n, p=(.8, .1, .1)),
        'reason': g.choice(('', '', '', 'clipped', 'under 20', 'not audio', NOTES[0]), n), 'detail': ''})
    return d, lambda d: (d[d.reason.isin(('', *NOTES))], d[~d.reason.isin(('', *NOTES))], d[d.reason.isin(NOTES)])


def test_report_counts_and_is_the_same_whatever_the_order():
    d, parts = table(); kept, dropped, notes = parts(d); text = report_text('a|b', len(d), kept, dropped, notes)
    assert report_text('a|b', len(d), *parts(d.sample(frac=1, random_state=3))) == text
    for reason, n in pd.concat([dropped, notes]).reason.value_counts().items():
        line = next(o for o in text.splitlines() if o.startswith(f'| {reason} | '))
        assert f'| {n} | {n / 60:.2%} |' in line and advice(reason) in line and line.count('clip\\|') == min(n, 3)
    for g in GENDERS:
        for a in AGESUB:
            counts = [int(((kept.gender == g) & (kept.agesub == a) & (kept.split == s)).sum()) for s in ('train', 'val', 'test')]
            assert f'| {g} | {a} | ' + ' | '.join(map(str, counts)) + ' |' in text
    assert 'female 60s+ (train)' in text and f'**Verdict:** faults in {dropped.reason.isin(("clipped", "not audio")).sum()} rows' in text


def test_report_refuses_to_lose_a_row():
    d, parts = table(); kept, dropped, notes = parts(d)
    with pytest.raises(ValueError, match='a row was lost'): report_text('x', len(d) + 1, kept, dropped, notes)
    assert 'no faults.' in report_text('x', len(kept), kept, dropped[:0], notes[:0]) and '## Left out' not in report_text('x', len(kept), kept, dropped[:0], notes[:0])
    outside = dropped[dropped.reason == 'under 20']
    assert 'outside the classes' in report_text('x', len(kept) + len(outside), kept, outside, notes[:0])
    assert 'nothing is left' in report_text('x', len(outside), kept[:0], outside, notes[:0])


def test_every_reason_of_the_list_has_advice():
    listed = """no age|under 20|unclear age|impossible age|no gender|other gender|unclear gender|no speaker|age and agesub disagree|agesup and agesub disagree
        speaker with two genders|ages of one speaker far apart|duplicate utterance|label is not UTF-8|label is not JSON|label is incomplete|audio missing
        audio is empty|not audio|audio is truncated|no samples|NaN or infinity|digital silence|clipped|several channels|rate below 8 kHz
        rate is not the corpus's|duration disagrees with the label|shorter than 1 s|longer than 20 s|segment outside the audio|same sound under two names
        same sound under two labels|path outside the corpus|decompression bomb|archive unreadable|names differ in case or Unicode form"""
    assert {r.strip() for line in listed.splitlines() for r in line.split('|')} <= set(FAULTS)
    outside = ['no age', 'under 20', 'no gender', 'other gender', 'not the studio part', 'shorter than 1 s', 'longer than 20 s']
    assert [r for r in FAULTS if not is_fault(r)] == [*outside, *NOTES]
    assert 0 < CLIPPED < 1


# ---- real speech

@real_only
@pytest.mark.parametrize('name,counts', [('common_voice', dict(listed=1947, opened=1826, notes=49)), ('accent_archive', dict(listed=1092, opened=1092, notes=0))])
def test_real_speech_has_no_fault_and_stays_far_from_clipping(name, counts):
    rows = read_corpus(name, REAL / name); labels, why = label_reasons(rows)
    d = rows.drop(columns=list(labels), errors='ignore').join(labels)[why == '']
    found = [inspect_audio(r.path, told_s=r.told_s) for r in d.itertuples()]
    assert {r for _, _, r in found} == {''} and max(f['clipped'] for _, f, _ in found) < CLIPPED / 10
    note = cross_check(d.assign(**pd.DataFrame([f for _, f, _ in found], d.index)))
    assert dict(listed=len(rows), opened=len(d), notes=int((note == NOTES[0]).sum())) == counts and set(note) <= {'', NOTES[0]}
    for (wave, _, _), path in list(zip(found, d.path))[::97]: np.testing.assert_array_equal(wave, as_read(path))


@real_only
@pytest.mark.parametrize('keep', [.2, .5, .9, .99])
def test_real_speech_cut_off_is_found(tmp_path, keep):
    for folder, kind in (('common_voice/*/clips', 'mp3'), ('accent_archive/audio', 'flac')):
        for p in sorted(REAL.glob(f'{folder}/*.{kind}'))[::211]:
            q = tmp_path / f'a.{kind}'; cut(p, p.stat().st_size * keep, q)
            assert inspect_audio(q)[2] == 'audio is truncated', p.name
