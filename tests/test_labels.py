"Labels: what a field may say, at speed, and names that other modules rely on"
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from mkdcls.labels import AGESUB, AGESUP, CLASSES, GENDERS, PARENT, TASKS, agesub_of, agesup_of, parent, parse_age, parse_gender, read_labels, to_index


def test_names_are_the_agreed_ones():
    assert GENDERS == ('female', 'male') and AGESUB == ('20s', '30s', '40s', '50s', '60s+') and AGESUP == ('20-30', '40-50', '60+')
    assert PARENT == (0, 0, 1, 1, 2) and TASKS == {'gender': 2, 'agesup': 3, 'agesub': 5} and list(CLASSES) == list(TASKS)


@pytest.mark.parametrize('decade', range(20, 120, 10))
@pytest.mark.parametrize('form', ["{}'s", '{}s', '{}대', '{}(?)', '{} (?)', "{}’s", '"{}s"', '{}+'])
def test_decades_in_every_spelling(decade, form):
    a = parse_age(form.format(decade))
    assert a == (None, agesub_of(decade), None)


@pytest.mark.parametrize('year', range(20, 100))
def test_years_in_every_type(year):
    for v in (year, float(year), str(year), f'{year}.0', f'{year}세', f'만 {year}세', f'{year} years', np.int64(year), np.float32(year), f' {year} '):
        assert parse_age(v) == (year, agesub_of(year), None), v


@pytest.mark.parametrize('word,label', [('twenties', '20s'), ('thirties', '30s'), ('fourties', '40s'), ('forties', '40s'), ('fifties', '50s'),
                                        ('sixties', '60s+'), ('seventies', '60s+'), ('eighties', '60s+'), ('nineties', '60s+'), ('Twenties', '20s')])
def test_common_voice_words(word, label): assert parse_age(word) == (None, label, None)


@pytest.mark.parametrize('text,reason', [('10(?)', 'under 20'), ('10s', 'under 20'), ('19', 'under 20'), ('0', 'no age'), ('0.0', 'no age'), ('NaN', 'no age'),
    ('121', 'impossible age'), ('inf', 'unclear age'), ('20-40', 'unclear age'), ('< 30', 'unclear age'),
    ('younger than 30', 'unclear age'), ('60 이하', 'unclear age'),
    ('0s', 'unclear age'), ('200s', 'unclear age'), ('25s', 'unclear age'), ('20~30대', 'unclear age'), ('20,30', 'unclear age'), ('2 0', 'unclear age')])
def test_what_has_no_class(text, reason): assert (parse_age(text).agesub, parse_age(text).reason) == (None, reason)


@pytest.mark.parametrize('value', [True, [20], {}, object(), math.inf, -math.inf, np.nan, pd.NA, pd.NaT, b'20'])
def test_odd_types_never_get_a_class(value): assert parse_age(value).agesub is None and parse_gender(value).gender is None


@pytest.mark.parametrize('text,answer', [
    ('FEMALE', 'female'), ('여자', 'female'), ('남성', 'male'), ('famale', 'female'), ('male_masculine', 'male'), ('transgender', None), ('mf', None)])
def test_genders(text, answer): assert parse_gender(text).gender == answer


def test_columns_agree_with_single_values_and_are_fast():
    values = [*range(0, 100, 7), "20's", '20(?)', 'teens', None, '', np.nan, 'fourties', '25', 25.5] * 500
    genders = list(itertools.islice(itertools.cycle(['M', '여', 'other', None, 'famale']), len(values)))
    df = read_labels(pd.Series(values, dtype=object), genders)
    for i in range(0, len(df), 97):
        a, g = parse_age(values[i]), parse_gender(genders[i])
        assert (df.agesub[i], df.agesup[i], df.gender[i], df.reason[i]) == (a.agesub, agesup_of(a.agesub), g.gender, g.reason or a.reason)
    assert df.reason.isna().equals(df.gender.notna() & df.agesub.notna())


def test_equal_spelling_of_another_type_is_read_by_its_own_type():
    "1 and True and '1' look alike as dictionary keys"
    df = read_labels([True, 30, '30', 30.0], ['f'] * 4)
    assert df.reason.tolist()[0] == 'no age' and df.agesub.tolist()[1:] == ['30s'] * 3


@pytest.mark.parametrize('dtype', [torch.int64, torch.int32, torch.uint8])
def test_parent_by_shape_and_type(dtype):
    x = torch.arange(5).repeat(4, 3).to(dtype)
    out = parent(x)
    assert out.dtype == torch.int64 and out.shape == x.shape and out[0, :5].tolist() == list(PARENT)
    assert parent(torch.empty(0, dtype=torch.int64)).shape == (0,)


def test_parent_agrees_with_names():
    assert torch.equal(parent(to_index(AGESUB, 'agesub')), to_index([agesup_of(a) for a in AGESUB], 'agesup'))
