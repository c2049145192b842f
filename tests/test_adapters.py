"Adapters on trees in the corpora's exact layouts, with their traps; the roles of real speech; the selection rebuilt from downloads"
import json
import os
import tarfile
import unicodedata
import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from mkdcls.adapters import (ADAPTERS, SAMPLE, accent_archive, aihub107, aihub109, aihub571, audiomnist, check_selection, common_voice, read_corpus,
                             real_roles, rebuild_selection, selection_list)
from mkdcls.corpora import ROLES, check_manifest, finish_manifest, read_audio, reasons
from mkdcls.engine.archives import Tree
from mkdcls.labels import AGESUB, GENDERS

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get('MKDCLS_REAL') or ROOT.parent / 'shared' / 'data')
real_only = pytest.mark.skipif(not (REAL / 'common_voice').is_dir(),
                               reason='no real speech here: set MKDCLS_REAL to a folder with common_voice/ and accent_archive/')


def tone(seconds=1.5, rate=16000, pitch=200, kind='WAV'):
    f = BytesIO()
    sf.write(f, .2 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate), rate, format=kind)
    return f.getvalue()


def data(what): return what if isinstance(what, bytes) else (what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)).encode()


def lay(folder, files):
    for name, what in files.items():
        p = folder / name
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(data(what))
    return Tree(folder)


class Windows(zipfile.ZipInfo):
    "A name in CP949, without the mark of UTF-8"
    def _encodeFilenameFlags(self): return self.filename.encode('cp949'), self.flag_bits


def zipped(file, files, info=zipfile.ZipInfo):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, 'w') as z:
        for n, what in files.items(): z.writestr(info(n), data(what))
    return Tree(file)


def tarred(file, files, mode='w', **how):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode, **how) as tar:
        for n, what in files.items():
            info = tarfile.TarInfo(n)
            info.size = len(data(what))
            tar.addfile(info, BytesIO(data(what)))
    return file


def finished(rows, corpus='c', **how):
    manifest, dropped = finish_manifest(rows, corpus, **how)
    assert len(manifest) + len(dropped) == len(rows)
    if len(manifest): check_manifest(manifest, split=False)
    return manifest, reasons(dropped)


def told(rows): return rows.set_index('utterance').fault.to_dict()


# ---- free conversation: AI-Hub 109 and 107

MAN, WOMAN, OLD = '일반남여_일반통합05_M_1455308554-6_37_수도권_실내', '일반남여_일반통합11_F_kd77_52_경상_녹음실', '노인남여_노인대화07_F_1522434093_60_경상_실내'


def talk(stem, seconds='1.500', **recorder):
    return {'발화정보': {'stt': '네', 'scriptId': '1', 'fileNm': f'{stem}.wavp', 'recrdTime': seconds, 'recrdQuality': '16K', 'recrdDt': '', 'scriptSetNo': '1'},
            '대화정보': {'recrdEnvrn': '실내', 'colctUnitCode': '', 'cityCode': '경상', 'recrdUnit': '', 'convrsThema': '날씨'}, '녹음자정보': recorder}


def pair(who, n, part='2.음성수집도구', top='자유대화 음성(일반남녀)/Training', kind='wav', label=None, **recorder):
    "A label and its audio, in the first layout"
    stem = f'{who}_{n:05d}'
    return {f'{top}/[라벨]{part}/{who}/{stem}.json': label if label is not None else talk(stem, **recorder), f'{top}/[원천]{part}_1/{who}/{stem}.{kind}': tone()}


man = dict(gender='남', recorderId='1455308554-6', age=37)


def test_109_reads_what_its_labels_say(tmp_path):
    files = pair(MAN, 1, **man) | pair(MAN, 2, part='1.AI챗봇', **man | {'age': '37'}) | pair(WOMAN, 3, kind='WAV', gender='여', recorderId='kd77', age='52')
    rows = aihub109(lay(tmp_path, files))
    assert list(rows.columns) == ['utterance', 'speaker', 'path', 'age', 'gender', 'told_s', 'language', 'fault']
    assert rows.utterance.tolist() == [f'AI챗봇/{MAN}_00002.wav', f'음성수집도구/{MAN}_00001.wav', f'음성수집도구/{WOMAN}_00003.WAV']
    assert rows.speaker.tolist() == ['1455308554-6', '1455308554-6', 'kd77'] and rows.told_s.tolist() == [1.5] * 3 and set(rows.language) == {'ko'}
    manifest, dropped = finished(rows)
    assert dropped == {} and manifest.age.tolist() == [37, 37, 52] and manifest.gender.tolist() == ['male', 'male', 'female']


@pytest.mark.parametrize('label,fault', [
    (data(talk('x', **man)).decode().encode('cp949'), 'label is not UTF-8'), (data(talk('x', **man))[:-3], 'label is not JSON'), (b'', 'label is not JSON'),
    (b'[' * 100_000, 'label is not JSON'), (b'\xef\xbb\xbf' + data(talk('x', **man)), ''), ({}, ''), ([], ''), ({'녹음자정보': 'x', '발화정보': [1]}, ''),
    (talk('x', gender=None, recorderId='', age='37'), '')])
def test_109_broken_labels_are_told_and_gaps_are_filled_from_the_folder(tmp_path, label, fault):
    rows = aihub109(lay(tmp_path, pair(MAN, 1, label=label)))
    assert told(rows) == {f'음성수집도구/{MAN}_00001.wav': fault}
    assert rows.path[0].endswith('.json' if fault else '.wav')
    if not fault: assert rows[['speaker', 'age', 'gender']].values.tolist() == [['1455308554-6', '37', 'M']] or rows.gender[0] == '남'
    assert finished(rows)[1] == ({fault: 1} if fault else {})


@pytest.mark.parametrize('gap', ['gender', 'recorderId', 'age'])
def test_109_a_field_that_neither_tells_is_incomplete(tmp_path, gap):
    who = '일반남여_이름없음'
    rows = aihub109(lay(tmp_path, pair(who, 1, **{k: v for k, v in man.items() if k != gap})))
    assert told(rows) == {f'음성수집도구/{who}_00001.wav': 'label is incomplete'} and finished(rows)[1] == {'label is incomplete': 1}


@pytest.mark.parametrize('says,reason', [(dict(gender='여'), 'unclear gender'), (dict(age=47), 'unclear age'), (dict(age='40'), 'unclear age'),
                                         (dict(age=15), 'unclear age'), (dict(age=38), None)])
def test_109_a_label_that_contradicts_its_folder_is_unclear(tmp_path, says, reason):
    assert finished(aihub109(lay(tmp_path, pair(MAN, 1, **man | says))))[1] == ({reason: 1} if reason else {})


def test_109_matches_across_packings_and_spellings_of_names(tmp_path):
    files = pair(MAN, 1, **man) | pair(WOMAN, 2, gender='여', recorderId='kd77', age=52)
    plain = aihub109(lay(tmp_path / 'a', files))
    trees = [lay(tmp_path / 'b', {unicodedata.normalize('NFD', n): w for n, w in files.items()}),
             lay(tmp_path / 'c', {unicodedata.normalize('NFD', n) if n.endswith('wav') else n: w for n, w in files.items()}),
             zipped(tmp_path / 'd.zip', files), zipped(tmp_path / 'e.zip', files, Windows),
             Tree(tarred(tmp_path / 'f.tar', files, encoding='cp949', format=tarfile.GNU_FORMAT)), Tree(tarred(tmp_path / 'g.tar.gz', files, 'w:gz'))]
    half = tmp_path / 'h' / '01.데이터' / '1.Training'
    for kind, mark in (('1.라벨링데이터_0913_add', '[라벨]'), ('2.원천데이터_0913_add', '[원천]')):
        inside = {'/'.join(n.split('/')[-2:]): w for n, w in files.items() if mark in n}
        zipped(half / kind / '2.음성수집도구' / '2.음성수집도구_2_자유대화(일반남여)_TRAINING.zip', inside)
    for tree in [*trees, Tree(tmp_path / 'h')]:
        rows = aihub109(tree)
        pd.testing.assert_frame_equal(rows.drop(columns='path'), plain.drop(columns='path'))
        assert finished(rows)[1] == {}


def test_109_a_stem_that_occurs_twice_is_matched_by_its_folders(tmp_path):
    twice = {n.replace('Training', 'Validation').replace('_1/', '/'): w for n, w in pair(MAN, 1, **man).items()}
    rows = aihub109(lay(tmp_path, pair(MAN, 1, **man) | twice | pair(MAN, 1, part='1.AI챗봇', **man)))
    assert rows.path.nunique() == 3 and [p.split('/')[-4] for p in rows.path] == ['Training', 'Training', 'Validation']
    assert [('AI챗봇' in u) for u in rows.utterance] == [('AI챗봇' in p) for p in rows.path]
    assert finished(rows)[1] == {'duplicate utterance': 1}


def test_109_missing_audio_and_audio_without_label_are_rows(tmp_path):
    files = pair(MAN, 1, **man) | pair(MAN, 2, **man)
    names = list(files)
    rows = aihub109(lay(tmp_path, {n: files[n] for n in (names[0], names[1], names[2])} | {names[3].replace('00002', '00003'): tone()}))
    assert finished(rows)[1] == {'audio missing': 1, 'label is incomplete': 1}
    assert told(rows) == {f'음성수집도구/{MAN}_0000{i}.wav': 'label is incomplete' * (i == 3) for i in (1, 2, 3)}


def test_109_a_duration_that_disagrees_with_the_label(tmp_path):
    rows = aihub109(lay(tmp_path, pair(MAN, 1, label=talk(f'{MAN}_00001', seconds='3.5', **man)) | pair(MAN, 2, label=talk(f'{MAN}_00002', seconds='', **man))))
    assert finished(rows)[1] == {'duration disagrees with the label': 1}


def test_107_keeps_the_studio_part_and_parts_masked_names(tmp_path):
    def elder(part, sex, who, age, n): return pair(f'노인남여_노인대화07_{sex}_{who}_{age}_경상_실내', n, part, '자유대화 음성(노인남여)/Training',
                                                   'WAV' if n == 1 else 'wav', gender={'F': '여', 'M': '남'}[sex], recorderId=who, age=age)
    files = {}
    for one in (('3.스튜디오', 'F', '김XX', 71, 1), ('3.스튜디오', 'M', '김XX', 71, 2), ('3.스튜디오', 'F', '김XX', 64, 3), ('3.스튜디오', 'F', '김XX', 71, 4),
                ('1.AI챗봇', 'F', '김XX', 71, 5), ('2.음성수집도구', 'F', '이XX', 66, 6)): files |= elder(*one)
    broken = next(n for n in files if 'AI챗봇' in n and n.endswith('json'))
    tree = lay(tmp_path, files | {broken: b'{', '자유대화 음성(노인남여)/Training/[원천]1.AI챗봇_1/노인남여_x.wav': tone()})
    manifest, dropped = finished(aihub107(tree))
    assert dropped == {'not the studio part': 3}
    assert manifest.groupby('speaker').size().to_dict() == {'c/female-64-김XX': 1, 'c/female-71-김XX': 2, 'c/male-71-김XX': 1}
    manifest, dropped = finished(aihub107(tree, studio=False))
    assert dropped == {'label is incomplete': 1, 'label is not JSON': 1} and len(manifest) == 5


def test_107_spellings_of_one_speaker_are_one(tmp_path):
    who = dict(recorderId='1522434093')
    rows = aihub107(lay(tmp_path, pair(OLD, 1, gender='여', age=60, **who) | pair(OLD, 2, gender='여성', age='60세', **who) | pair(OLD, 3)))
    assert set(rows.speaker) == {'female-60-1522434093'}


def test_107_sample_package_and_two_corpora_in_one_folder(tmp_path):
    stem = f'{OLD}_00001'
    files = {f'New_Sample/라벨링데이터/{OLD}/{stem}.json': talk(stem, gender='여', recorderId='1522434093', age=60), f'New_Sample/원천데이터/{OLD}/{stem}.wav': tone()}
    tree = lay(tmp_path, files | pair(MAN, 1, **man))
    assert told(aihub107(tree)) == {f'{stem}.wav': ''} and told(aihub109(tree)) == {f'음성수집도구/{MAN}_00001.wav': ''}


# ---- telephone: AI-Hub 571

def call(D='D04', J='J18', S='S023423', people=(('1', '여', 34), ('2', '남', '20(?)')), lines='12', **change):
    speakers = [dict(id=i, type='고객1', gender=g, age=a, telephone_network='8k') for i, g, a in people]
    dialogs = [dict(speaker=w, audioPath=f'{D}/{J}/{S}/{n:04d}.wav', duration=1.5, text='네') | change for n, w in enumerate(lines, 1)]
    label = {'dataSet': {'typeInfo': {'category': '금융', 'subcategory': '상담', 'speakers': speakers}, 'dialogs': dialogs}}
    return ({f'{D}/{J}/{S}/{S}.json': label} | {f'{D}/{J}/{S}/{n:04d}.txt': '네' for n in range(1, len(lines) + 1)},
            {f'{D}/{J}/{S}/{n:04d}.wav': tone(rate=8000) for n in range(1, len(lines) + 1)})


def ltv(tmp_path, *calls, pieces=0, **names):
    "Label and audio zips in the corpus's tree"
    top = '007.저음질 전화망 음성인식 데이터/01.데이터/1.Training'
    for k, name in enumerate(('라벨링데이터_230316/TL_D04.zip', '원천데이터_230316/TS_D04.zip')):
        zipped(tmp_path / top / name, {n: w for c in calls for n, w in c[k].items()})
    return Tree(tmp_path)


def test_571_speakers_are_unique_within_their_call(tmp_path):
    three = (('1', '여', 34), ('2', '여', 51), ('3', '남', 28))
    rows = aihub571(ltv(tmp_path, call(), call(J='J19', people=(('1', '남', "40's"), ('2', '여', 61))), call(D='D03'), call(S='S000001', people=three, lines='1231')))
    assert rows.utterance.is_unique and rows.speaker.nunique() == 9 and 'D03/J18/S023423/1' in set(rows.speaker) and rows.told_s.tolist() == [1.5] * 10
    manifest, dropped = finished(rows)
    assert dropped == {} and manifest[manifest.utterance == 'c/D04/J18/S023423/0002.wav'][['gender', 'agesub']].values.tolist() == [['male', '20s']]
    assert manifest.age.isna().sum() == 3 and set(manifest.rate) == {8000}


@pytest.mark.parametrize('age,reason', [('20(?)', None), ('30대', None), ("10's", 'under 20'), ('25(?)', 'unclear age'), ('미상', 'no age'), (0, 'no age'), (61, None)])
def test_571_ages(tmp_path, age, reason):
    assert finished(aihub571(ltv(tmp_path, call(people=(('1', '여', age),), lines='1'))))[1] == ({reason: 1} if reason else {})


@pytest.mark.parametrize('path', ['D04/J18/S023423/0001.wav', 'J18\\S023423\\0001.wav', '0001.wav', './0001.WAV', 'D99/J18/S023423/0001.wav',
                                  '/D04/J18/S023423/0001.wav'])
def test_571_audio_is_found_by_what_its_path_tells(tmp_path, path):
    rows = aihub571(ltv(tmp_path, call(lines='1', audioPath=path)))
    assert finished(rows)[1] == {} and rows.path[0].endswith('TS_D04.zip/D04/J18/S023423/0001.wav')


def test_571_D_is_told_by_the_zip_where_no_folder_does(tmp_path):
    short = [{n.removeprefix('D04/'): w for n, w in part.items()} for part in call(audioPath='S023423/0001.wav', lines='1')]
    assert aihub571(ltv(tmp_path, short)).speaker.tolist() == ['D04/J18/S023423/1']


@pytest.mark.parametrize('change,faults', [
    (dict(speaker='7'), {'label is incomplete': 2}), (dict(speaker=None), {'label is incomplete': 2}), (dict(audioPath=None), {'label is incomplete': 4}),
    (dict(audioPath='D04/J18/S023423/0009.wav'), {'audio missing': 1, 'duplicate utterance': 1, 'label is incomplete': 2})])
def test_571_dialogs_with_holes(tmp_path, change, faults): assert finished(aihub571(ltv(tmp_path, call(**change))))[1] == faults


@pytest.mark.parametrize('label,fault', [(b'{', 'label is not JSON'), ('네'.encode('cp949'), 'label is not UTF-8'), ({'dataSet': []}, 'label is incomplete'),
                                         ({'dataSet': {'dialogs': [], 'typeInfo': 1}}, 'label is incomplete'), ([], 'label is incomplete')])
def test_571_a_broken_label_costs_its_call_and_is_named(tmp_path, label, fault):
    good, bad = call(), call(J='J19')
    rows = aihub571(ltv(tmp_path, good, ({'D04/J19/S023423/S023423.json': label}, bad[1])))
    assert told(rows)['D04/J19/S023423/S023423.json'] == fault and (rows.fault == '').sum() == 2 and len(rows) == 5
    assert rows.path[rows.utterance == 'D04/J19/S023423/S023423.json'].item().endswith('TL_D04.zip/D04/J19/S023423/S023423.json')
    left = dict(pd.Series({fault: 1}).add(pd.Series({'label is incomplete': 2}), fill_value=0).astype(int))
    assert finished(rows)[1] == left


def test_571_a_tar_of_pieces(tmp_path):
    whole = aihub571(ltv(tmp_path / 'a', call(), call(J='J19'))).drop(columns='path')
    pieces = {}
    for p in sorted((tmp_path / 'a').rglob('*.zip')):
        b = p.read_bytes()
        pieces |= {f'{p.relative_to(tmp_path / "a").as_posix()}.part{i}': b[i:i + 9000] for i in range(0, len(b), 9000)}
    tar = tarred(tmp_path / 'download.tar', pieces, encoding='cp949', format=tarfile.GNU_FORMAT)
    assert sum('.part' in n for n in pieces) > 9
    rows = read_corpus('aihub571', tar)
    pd.testing.assert_frame_equal(rows.drop(columns='path'), whole)
    assert finished(rows)[1] == {} and len(read_audio(rows.path[0])) == 12000


# ---- Common Voice

OLD_COLUMNS = 'client_id path sentence up_votes down_votes age gender accent locale segment'
NEW_COLUMNS = 'client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment'


def tsv(columns, *rows):
    columns = columns.split()
    return '\n'.join(['\t'.join(columns), *('\t'.join({'up_votes': '2', **r}.get(c, '') for c in columns) for r in rows)]) + '\n'


@pytest.mark.parametrize('columns', [OLD_COLUMNS, NEW_COLUMNS])
def test_common_voice_quoting_and_columns(tmp_path, columns):
    clip = tone(1.5, 44100, kind='MP3')
    table = tsv(columns, dict(client_id='1', path='a.mp3', sentence='"so', age='nineties', gender='male_masculine'),
                dict(client_id='NA', path='b.mp3', sentence="o'clock", age='fourties', gender='female'),
                dict(client_id='3', path='c', sentence='so"', age='fifties', gender='male'))
    lay(tmp_path, {f'xx/clips/{n}.mp3': clip for n in 'abc'} | {'xx/validated.tsv': table, 'xx/other.tsv': table, 'xx/clips/d.mp3': clip})
    for folder in (tmp_path, tmp_path / 'xx'):
        manifest, dropped = finished(common_voice(Tree(folder)), 'Common Voice')
        assert dropped == {} and manifest.agesub.tolist() == ['60s+', '40s', '50s'] and manifest.age.isna().all()
        assert manifest.utterance.tolist() == [f'Common Voice/xx/clips/{n}.mp3' for n in 'abc']
        assert manifest.speaker.tolist() == ['Common Voice/1', 'Common Voice/NA', 'Common Voice/3'] and set(manifest.language) == {'xx'}


WORDS = {'': 'no age', 'teens': 'under 20', 'twenties': '20s', 'thirties': '30s', 'fourties': '40s', 'fifties': '50s',
         **dict.fromkeys(('sixties', 'seventies', 'eighties', 'nineties'), '60s+')}
SEXES = {'male': 'male', 'female': 'female', 'male_masculine': 'male', 'female_feminine': 'female', 'other': 'other gender', 'intersex': 'other gender',
         'transgender': 'other gender', 'non-binary': 'other gender', 'do_not_wish_to_say': 'no gender', '': 'no gender'}


def test_common_voice_every_word_for_age_and_gender(tmp_path):
    lines = [dict(client_id=f'{a}/{g}', path='a.mp3', age=a, gender=g) for a in WORDS for g in SEXES]
    lines = [r | {'path': f'{i}.mp3'} for i, r in enumerate(lines)]
    rows = common_voice(lay(tmp_path, {'cy/validated.tsv': tsv(NEW_COLUMNS, *lines)} | {f'cy/clips/{i}.mp3': b'' for i in range(len(lines))}))
    from mkdcls.corpora import label_reasons
    found, reason = label_reasons(rows)
    for r, f, why in zip(lines, found.itertuples(), reason):
        a, g = WORDS[r['age']], SEXES[r['gender']]
        if a in AGESUB and g in GENDERS: assert (f.agesub, f.gender, why) == (a, g, '')
        else: assert why in (a, g) and why not in AGESUB + GENDERS


def test_common_voice_names_a_list_without_labels(tmp_path):
    with pytest.raises(ValueError, match=r"xx/validated.tsv: columns \['age', 'gender'\]"): common_voice(lay(tmp_path, {'xx/validated.tsv': 'client_id\tpath\n'}))
    with pytest.raises(ValueError, match=r"yy/validated.tsv is no table"): common_voice(lay(tmp_path / 'b', {'yy/validated.tsv': 'a\tb\n1\t2\t3\n1\t2\t3\t4\n'}))


def test_common_voice_one_voice_in_two_locales_is_one_speaker(tmp_path):
    table = tsv(OLD_COLUMNS, dict(client_id='s', path='k.mp3', age='twenties', gender='male'))
    locale = {'clips/k.mp3': tone(1.5, 44100, kind='MP3'), 'validated.tsv': table}
    manifest, _ = finished(common_voice(lay(tmp_path, {f'{loc}/{n}': w for loc in ('aa', 'bb') for n, w in locale.items()})))
    assert manifest.speaker.nunique() == 1 and manifest.utterance.nunique() == 2


def test_common_voice_faults(tmp_path):
    paths = 'a.mp3', '', '../../../a.mp3', '/etc/a.mp3', 'C:\\a.mp3', '..\\a.mp3', 'gone.mp3', 'É.mp3'
    lines = [dict(client_id='s', path=p, age='twenties', gender='male') for p in paths]
    lines += [dict(client_id='', path='b.mp3', age='twenties', gender='male')]
    files = {'aa/validated.tsv': tsv(OLD_COLUMNS, *lines), 'bb/validated.tsv': 'client_id\tÉ\n'.encode('latin-1')}
    rows = common_voice(lay(tmp_path, files | {unicodedata.normalize('NFD', f'aa/clips/{n}.mp3'): tone(1.5, 44100, kind='MP3') for n in 'abé'}))
    assert rows.utterance.is_unique
    assert finished(rows)[1] == {'audio missing': 1, 'label is incomplete': 1, 'label is not UTF-8': 1, 'no speaker': 1, 'path outside the corpus': 4}
    assert all(Path(p).is_relative_to(tmp_path) for p in rows.path)
    assert not any('..' in p for p in rows.path)


def test_common_voice_as_downloaded(tmp_path):
    locale = {'validated.tsv': tsv(OLD_COLUMNS, dict(client_id='s', path='k.mp3', age='twenties', gender='male')), 'clips/k.mp3': tone(1.5, 44100, kind='MP3')}
    files = {f'{loc}/{n}': w for loc in ('fy-NL', 'zh-TW') for n, w in locale.items()}
    whole = common_voice(lay(tmp_path / 'a', files)).drop(columns='path')
    for loc in ('fy-NL', 'zh-TW'):
        tarred(tmp_path / 'b' / f'{loc}.tar.gz', {f'cv-corpus-6.1-2020-12-11/{n}': w for n, w in files.items() if n.startswith(loc)}, 'w:gz')
    zipped(tmp_path / 'c' / 'zh-TW.zip', {n.removeprefix('zh-TW/'): w for n, w in files.items() if 'zh' in n})
    pd.testing.assert_frame_equal(common_voice(Tree(tmp_path / 'b')).drop(columns='path'), whole)
    pd.testing.assert_frame_equal(common_voice(zipped(tmp_path / 'd.zip', files)).drop(columns='path'), whole)
    for root in ('b/zh-TW.tar.gz', 'c/zh-TW.zip', 'c', 'a/zh-TW'):
        pd.testing.assert_frame_equal(common_voice(Tree(tmp_path / root)).drop(columns='path'), whole[1:].reset_index(drop=True))


# ---- Speech Accent Archive

HEAD = 'age,age_onset,birthplace,filename,native_language,sex,speakerid,country,file_missing?,,,'


def copy_of(folder, *speakers, length=15.5):
    "The common copy: (speaker, file name, age, sex, is its file there)"
    lines = [HEAD] + [f'{a},3,"x, y",{f},z,{s},{i},w,{str(not there).upper()},,,' for i, f, a, s, there in speakers]
    there = [f for _, f, _, _, here in speakers if here]
    sounds = {f'recordings/recordings/{f}.mp3': tone(length, 44100, 100 + 20 * k, 'MP3') for k, f in enumerate(there)}
    return lay(folder, {'speakers_all.csv': '\n'.join(lines)} | sounds)


def test_accent_archive_common_copy(tmp_path):
    four = (1, 'afrikaans1', 27, 'famale', True), (2, 'dutch7', 0, 'male', True), (3, 'fulfulde1', 43, 'male', False), (4, 'thai2', '61.5', 'male', True)
    tree = copy_of(tmp_path, *four)
    lay(tmp_path, {'recordings/recordings/unlisted.mp3': b'', 'reading-passage.txt': 'x'})
    rows = accent_archive(Tree(tmp_path))
    assert rows.utterance.tolist()[:3] == [f'recordings/afrikaans1.mp3#{a}-{a + 5}' for a in (0, 5, 10)] and rows.utterance.is_unique and len(tree.names) == 4
    manifest, dropped = finished(rows)
    assert dropped == {'audio missing': 1, 'label is incomplete': 1, 'no age': 3}
    who = manifest.drop_duplicates('speaker')[['speaker', 'gender', 'age', 'agesub']].values.tolist()
    assert who == [['c/saa_1', 'female', 27, '20s'], ['c/saa_4', 'male', 61.5, '60s+']]
    assert manifest.duration.tolist() == [5] * 6 and len(read_audio(manifest.path[1], start_s=5., end_s=10.)) == 40000
    by_zip = finished(accent_archive(zipped(tmp_path / 'z' / 'archive.zip', {f'archive/{n}': Tree(tmp_path).read(n) for n in Tree(tmp_path).names})))
    pd.testing.assert_frame_equal(by_zip[0].drop(columns='path'), manifest.drop(columns='path'))


def test_accent_archive_cut_form(tmp_path):
    rows = [('audio/saa_1_0.flac', 1, 61, 'famale', 5.), ('audio/saa_1_1.flac', 1, 61, 'female', 7.5), ('audio/saa_2_0.flac', 2, 0, 'male', 5.),
            ('audio/gone.flac', 3, 34, 'male', 5.), ('../a.flac', 3, 34, 'male', 5.), ('', 3, 34, 'male', 5.)]
    lines = ['path,speaker_id,age,gender,duration_s,language,first_language'] + [f'{p},saa_{i},{a},{g},{s},en,korean' for p, i, a, g, s in rows]
    tree = lay(tmp_path, {'manifest.csv': '\r\n'.join(lines)} | {f'audio/saa_{n}.flac': tone(5, 8000, kind='FLAC') for n in ('1_0', '1_1', '2_0')})
    manifest, dropped = finished(accent_archive(tree))
    assert manifest[['utterance', 'speaker', 'gender', 'age']].values.tolist() == [['c/audio/saa_1_0.flac', 'c/saa_1', 'female', 61]]
    assert dropped == {'audio missing': 1, 'duration disagrees with the label': 1, 'label is incomplete': 1, 'no age': 1, 'path outside the corpus': 1}


# ---- AudioMNIST, lists of one's own, all by name

def test_audiomnist(tmp_path):
    meta = {'01': {'age': '30', 'gender': 'male', 'native speaker': 'no'}, '28': {'age': '1234', 'gender': 'female'}, '03': {'gender': 'female'}}
    files = {f'data/{s}/{d}_{s}_{r}.wav': tone(.7, 48000) for s in ('01', '28', '03', '60') for d in (0, 9) for r in (0, 49)}
    tree = lay(tmp_path, files | {'data/01/README.wav': b'', 'data/01/1_02_0.wav': b'', 'data/audioMNIST_meta.txt': meta})
    assert finished(audiomnist(tree))[1] == {'impossible age': 4, 'label is incomplete': 8, 'shorter than 1 s': 4}
    manifest, dropped = finished(audiomnist(tree), seconds=(.3, 20))
    assert manifest.utterance.tolist() == [f'c/01/{d}_01_{r}.wav' for d in (0, 9) for r in (0, 49)] and set(manifest.age) == {30}
    broken = finished(audiomnist(lay(tmp_path, {'data/audioMNIST_meta.txt': '{"01": {"age"'})))[1]
    assert broken == {'label is incomplete': 16, 'label is not JSON': 1}


def test_every_adapter_refuses_another_folder(tmp_path):
    (tmp_path / 'x.txt').write_text('x')
    for name in set(ADAPTERS) - {'own'}:
        with pytest.raises(ValueError, match=f'^{name}: .*give the folder'): read_corpus(name, tmp_path)
    names = 'aihub109, aihub107, aihub571, common_voice, accent_archive, audiomnist, own'
    with pytest.raises(ValueError, match=f"no adapter 'timit'; there are {names}"): read_corpus('timit', tmp_path)
    with pytest.raises(FileNotFoundError): read_corpus('common_voice', tmp_path / 'gone')


def test_own_list_by_name(tmp_path):
    lay(tmp_path, {'a.wav': tone(4), 'l.csv': 'path,speaker_id,gender,age,start_s,end_s\na.wav,1,F,20대,0,2\na.wav,2,남,41,2,4\n'})
    manifest, dropped = finished(read_corpus('own', tmp_path / 'l.csv'))
    assert dropped == {} and manifest.agesub.tolist() == ['20s', '40s'] and manifest.duration.tolist() == [2, 2]


def test_the_papers_names(): assert {k: ADAPTERS[k][1] for k in ('aihub109', 'aihub107', 'aihub571')} == {'aihub109': 'FCVG', 'aihub107': 'FCVE', 'aihub571': 'LTV'}


# ---- roles, selection, rebuilding

def invented(folder, archive=12, voices=40):
    "accent_archive (cut form) and common_voice in one folder"
    cuts = [(i, k) for i in range(archive) for k in (0, 2)]
    lines = ['path,speaker_id,age,gender,duration_s,language,first_language']
    lines += [f'audio/saa_{i}_{k}.flac,saa_{i},{20 + 4 * i},{GENDERS[i % 2]},5.0,en,thai' for i, k in cuts]
    files = {f'accent_archive/audio/saa_{i}_{k}.flac': tone(5, 8000, 100 + 10 * i + k, 'FLAC') for i, k in cuts}
    files['accent_archive/manifest.csv'] = '\n'.join(lines)
    for loc, half in (('cy', range(voices // 2)), ('vi', range(voices // 2, voices))):
        people = [dict(client_id=f'c{i}', path=f'{i}.mp3', sentence='a\u2028"b', age=('twenties', 'fourties')[i % 3 == 0], gender=GENDERS[i % 2]) for i in half]
        files |= {f'common_voice/{loc}/clips/{i}.mp3': tone(1.2, 32000, 100 + 5 * i, 'MP3') for i in half}
        files[f'common_voice/{loc}/validated.tsv'] = tsv(OLD_COLUMNS, *people, dict(client_id='z', path='unwanted.mp3', age='teens', gender='male'))
    lay(folder, files)
    return folder


def both(folder, names=None): return [finish_manifest(read_corpus(n, folder / n), (names or {}).get(n, ADAPTERS[n][1]))[0] for n in SAMPLE]


def test_roles_do_not_depend_on_what_the_manifest_calls_its_corpus(tmp_path):
    folder = invented(tmp_path)
    a, b = real_roles(*both(folder), fold=1), real_roles(*both(folder, {'common_voice': 'Common Voice 6.1', 'accent_archive': 'SAA'}), fold=1)
    for role in ROLES:
        assert a[role].fold.tolist() == b[role].fold.tolist() and a[role].split.tolist() == b[role].split.tolist() and a[role].path.tolist() == b[role].path.tolist()
    assert set(a['FCVG'].corpus) == {'Speech Accent Archive'} and set(a['call centre'].corpus) == {'Common Voice'}
    pd.testing.assert_frame_equal(selection_list(a, folder), selection_list(b, folder))
    with pytest.raises(ValueError, match='fold 5 outside 0..4'): real_roles(*both(folder), 5)


def test_roles_ignore_the_order_of_rows_and_keep_what_else_a_manifest_holds(tmp_path):
    saa, cv = both(invented(tmp_path))
    a, b = real_roles(saa, cv, 2), real_roles(saa[::-1], cv.sample(frac=1, random_state=0).assign(shard='00000', row=7), 2)
    for role in ROLES: assert a[role].set_index('utterance').fold.to_dict() == b[role].set_index('utterance').fold.to_dict()
    assert set(b['call centre'].row) == {7}


def downloads(folder, tmp_path):
    "The public downloads behind an invented folder: one locale as .tar.gz, one as a folder; the common copy"
    cv = folder / 'common_voice'
    names = sorted(p for p in (cv / 'cy').rglob('*') if p.is_file())
    tarred(tmp_path / 'dl' / 'cy.tar.gz', {f'cv-corpus-6.1-2020-12-11/{p.relative_to(cv).as_posix()}': p.read_bytes() for p in names}, 'w:gz')
    lay(tmp_path / 'dl' / 'cv-corpus-6.1-2020-12-11', {p.relative_to(cv).as_posix(): p.read_bytes() for p in (cv / 'vi').rglob('*') if p.is_file()})
    copy_of(tmp_path / 'copy', *((i, f'thai{i}', 20 + 4 * i, GENDERS[i % 2], True) for i in range(12)))
    return tmp_path / 'dl', tmp_path / 'copy'


def test_the_selection_comes_back_from_the_downloads(tmp_path):
    folder = invented(tmp_path / 'real')
    cv, copy = downloads(folder, tmp_path)
    roles = real_roles(*both(folder), 1)
    listing = selection_list(roles, folder)
    listing.to_csv(tmp_path / 'real.csv', index=False)
    problems = rebuild_selection(tmp_path / 'real.csv', cv, copy, tmp_path / 'out')
    assert set(problems.problem) == {'not equal bit for bit'} and sorted(problems.file) == sorted(listing.file[listing.role == 'FCVG'])
    again = real_roles(*both(tmp_path / 'out'), 1)
    for role in ROLES:
        for column in ('fold', 'split', 'duration', 'gender', 'agesub'):
            assert again[role].set_index('utterance')[column].to_dict() == roles[role].set_index('utterance')[column].to_dict()
    listed = [(f / 'common_voice' / 'cy' / 'validated.tsv').read_text('utf-8').split('\n') for f in (tmp_path / 'out', folder)]
    assert listed[0] == [l for l in listed[1] if 'unwanted' not in l] and len(listed[0]) == 22
    assert not any('unwanted' in n for n in Tree(tmp_path / 'out').names)
    assert sf.info(tmp_path / 'out' / 'accent_archive' / 'audio' / 'saa_3_2.flac').subtype == 'PCM_16'
    mine = selection_list(again, tmp_path / 'out')
    assert len(rebuild_selection(mine, cv, copy, tmp_path / 'again')) == 0, 'the same machine cuts the same bytes'


def test_rebuilding_names_every_problem(tmp_path):
    folder = invented(tmp_path / 'real')
    cv, copy = downloads(folder, tmp_path)
    listing = selection_list(real_roles(*both(folder)), folder)
    vi = tmp_path / 'dl' / 'cv-corpus-6.1-2020-12-11' / 'vi'
    (vi / 'clips' / '30.mp3').write_bytes(b'other')
    (vi / 'clips' / '31.mp3').unlink()
    table = (vi / 'validated.tsv').read_text().split('\n')
    (vi / 'validated.tsv').write_text('\n'.join(l for l in table if '\t32.mp3' not in l))
    (copy / 'recordings' / 'recordings' / 'thai4.mp3').write_bytes(tone(12, 44100, kind='MP3'))
    (copy / 'recordings' / 'recordings' / 'thai5.mp3').write_bytes(b'no audio')
    (copy / 'recordings' / 'recordings' / 'thai6.mp3').unlink()
    problems = rebuild_selection(listing, cv, copy, tmp_path / 'out').set_index('file').problem
    assert problems['common_voice/vi/clips/30.mp3'] == 'changed' and problems['common_voice/vi/clips/31.mp3'] == 'missing'
    assert problems['common_voice/vi/clips/32.mp3'] == 'no label in validated.tsv'
    assert problems['accent_archive/audio/saa_4_0.flac'] == 'not equal bit for bit' and '12.0' in problems['accent_archive/audio/saa_4_2.flac']
    assert all('not audio' in problems[f'accent_archive/audio/saa_5_{k}.flac'] and problems[f'accent_archive/audio/saa_6_{k}.flac'] == 'missing' for k in (0, 2))
    assert not (tmp_path / 'out' / 'common_voice' / 'vi' / 'clips' / '30.mp3').exists()
    assert set(check_selection(tmp_path / 'out', listing).file) == set(problems.index) - {'common_voice/vi/clips/32.mp3'}
    with pytest.raises(ValueError, match='no speakers_all.csv'): rebuild_selection(listing, cv, cv, tmp_path / 'x')
    with pytest.raises(ValueError, match=r"columns \['sha256'\]"): rebuild_selection(listing.drop(columns='sha256'), cv, copy, tmp_path / 'x')


@pytest.fixture(scope='module')
def real(): return {n: finish_manifest(read_corpus(n, REAL / n), ADAPTERS[n][1]) for n in SAMPLE}


@real_only
def test_real_speech_in_its_roles(real):
    (saa, none), (cv, dropped) = real.values()
    roles = real_roles(saa, cv, 2)
    assert reasons(dropped) == {'no age': 3, 'no gender': 100, 'other gender': 3, 'under 20': 15} and len(none) == 0
    assert {r: (len(m), m.speaker.nunique()) for r, m in roles.items()} == {'FCVG': (1092, 364), 'LTV+FCVE': (1466, 822), 'call centre': (360, 206)}
    assert len({s for m in roles.values() for s in m.speaker.unique()}) == 364 + 1028
    for m in roles.values():
        assert set(m.split) == {'train', 'test'} and (m.split[m.fold == 2] == 'test').all() and set(m.gender[m.split == 'test']) == set(GENDERS)
        assert set(m.agesub[m.split == 'test']) == set(AGESUB)


@real_only
def test_the_recorded_selection_is_what_is_here(real):
    listing = ROOT / 'paper' / 'selection' / 'real.csv'
    assert len(check_selection(REAL, listing)) == 0
    pd.testing.assert_frame_equal(selection_list(real_roles(*(m for m, _ in real.values())), REAL), pd.read_csv(listing), check_dtype=False)


@real_only
def test_real_files_can_be_read(real):
    for m, _ in real.values():
        for r in m[::40].itertuples():
            wave = read_audio(r.path)
            assert np.isfinite(wave).all() and abs(len(wave) / 8000 - r.duration) < .1, r.utterance


@real_only
def test_recorded_clips_come_back_from_a_download(tmp_path):
    "Two locales, one packed as the site does; the recorded checksums"
    listing = pd.read_csv(ROOT / 'paper' / 'selection' / 'real.csv')
    listing = listing[listing.file.str.match('common_voice/(cy|rm-vallader)/')]
    cy, rm = ({n: Tree(REAL / 'common_voice' / loc).read(n) for n in Tree(REAL / 'common_voice' / loc).names} for loc in ('cy', 'rm-vallader'))
    tarred(tmp_path / 'dl' / 'cy.tar.gz', {f'cv-corpus-6.1-2020-12-11/cy/{n}': b for n, b in cy.items()}, 'w:gz')
    lay(tmp_path / 'dl', {f'rm-vallader/{n}': b for n, b in rm.items()})
    copy_of(tmp_path / 'copy')
    assert len(listing) > 40 and len(rebuild_selection(listing, tmp_path / 'dl', tmp_path / 'copy', tmp_path / 'out')) == 0
    rows = common_voice(Tree(tmp_path / 'out'))
    assert sorted(f'common_voice/{u}' for u in rows.utterance) == sorted(listing.file) and (rows.fault == '').all()
    assert {f'common_voice/{u}': sha256(Path(p).read_bytes()).hexdigest() for u, p in zip(rows.utterance, rows.path)} == dict(zip(listing.file, listing.sha256))
