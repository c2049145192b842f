"""The graph as an object: graph and code agree over many recipes, every switch shows, and the formulas hold for any numbers."""
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from functools import cache

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mkdcls.asymmetric import asymmetric_loss, smoothed_ce
from mkdcls.causal import (Bench, Change, adjusted, changes, check_graph, check_recipe, cka, disagreements, figure_graph, forward, generator_graph, graph_of,
                           intervene, letters, measured_graph, observed, paper_graph, permute_pairs, renamed, resolve, same, separations, shaken, switches,
                           without, node_words)
from mkdcls.engine.store import digest, plain
from mkdcls.labels import TASKS
from mkdcls.objective import task_loss
from mkdcls.runs import build, preset_of

ROWS = preset_of('smoke').rows()
SIX = ROWS['6']


def loss(r=SIX, **v): return replace(r, objective=replace(r.objective, **v))
def view(r=SIX, **v): return replace(r, settings=replace(r.settings, **v))
def mix(r=SIX, **v): return view(r, mixup=replace(r.settings.mixup, **v))


@cache
def teacher(row): return build(ROWS[row], 0).student
def model_of(r): return build(r, 0, None if r.teacher is None else teacher(r.teacher))


# ---- graph and code agree

FIXED = {
    **{f'row {r}': ROWS[r] for r in ('1', '3', '4a', '4b', '5', '6', '10', '13')},
    'pooled': replace(SIX, z='pooled'), 'no K in Z': replace(SIX, z='student'), 'no K at all': loss(replace(SIX, teacher=None), dist='none'),
    'K idle': loss(replace(SIX, z='student'), dist='none'),
    'weight 0': loss(dist_weight=0.), 'embedding': loss(dist_level='embedding'), 'lam 1': mix(lam=1.), 'both views': view(student_view='both'),
    'summed': replace(ROWS['3'], tasks=('gender', 'agesub')), 'gender only': replace(ROWS['3'], tasks=('gender',)),
    'back door, no distance': loss(replace(SIX, context='backdoor'), dist='none'), 'back door, pooled': replace(SIX, context='backdoor', z='pooled'),
    'prototypes alone': replace(ROWS['5'], context='prototypes'), 'prototypes, features': replace(SIX, context='prototypes', sub_to_sup='features'),
    'back door, never trained': replace(SIX, context='backdoor', trained=False)}


@pytest.mark.parametrize('name', FIXED)
def test_graph_and_code_agree(name):
    r = FIXED[name]
    assert disagreements(graph_of(r), measured_graph(model_of(r), r)) == []


recipes = st.builds(
    lambda row, z, wire, dep, dist, sview, tview, context, trained: replace(
        view(loss(ROWS[row], dep=dep, dist=dist), student_view=sview, teacher_view=tview), z=z, sub_to_sup=wire, context=context, trained=trained),
    st.sampled_from(('5', '6')), st.sampled_from(('embedding', 'student')), st.sampled_from(('losses', 'features', 'reversed')),
    st.sampled_from(('none', 'corrected', 'shifted', 'soft_kl', 'constant', 'literal')), st.sampled_from(('none', 'cos', 'mse')),
    st.sampled_from(('normal', 'mixup', 'both')), st.sampled_from(('normal', 'mixup')), st.sampled_from(('none', 'none', 'backdoor', 'prototypes')), st.booleans())


def sound(r):
    try: check_recipe(r)
    except ValueError: return False
    return True


@settings(max_examples=8, deadline=None)
@given(recipes.filter(sound))
def test_graph_and_code_agree_anywhere(r):
    if r.row == '5': r = loss(replace(r, teacher=None), dist='none') if r.context != 'backdoor' else replace(r, context='none', teacher=None)
    if not sound(r): return
    assert disagreements(graph_of(r), measured_graph(model_of(r), r)) == []


def test_measuring_changes_nothing():
    m = model_of(SIX)
    before = {n: v.clone() for n, v in m.state_dict().items()}
    mode, state = m.training, torch.get_rng_state()
    measured_graph(m, SIX)
    assert m.training == mode and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], v) for n, v in m.state_dict().items()) and not any(p.grad is not None for p in m.parameters())


def test_a_missing_arrow_is_seen_from_both_sides():
    g, m = graph_of(SIX), measured_graph(model_of(SIX), SIX)
    for edge in g.edges:
        assert disagreements(without(g, edge), m) == [f"{' → '.join(edge)}: the graph says no arrow, the code {g.edges[edge]['when']}"]
        assert len(disagreements(g, without(m, edge))) == 1


def test_bench_holds():
    "A held value reaches every reader and nothing else"
    x = torch.randn(4, 40, 80)
    bench = Bench(model_of(SIX), x, torch.full((4,), 40))
    base = bench()
    moved = bench({'K': shaken(base['K'])})
    assert torch.equal(moved['X'].pooled, base['X'].pooled) and not torch.equal(moved['Z'], base['Z'])
    fixed = bench({'K': shaken(base['K']), 'Z': base['Z']})
    assert all(torch.equal(fixed[f'Y_{t}'], base[f'Y_{t}']) for t in TASKS)


# ---- every switch shows

def other(name, value): # another legal value for a switch
    known = {'family': 'resnet', 'size': 'teacher', 'role': 'FCVG', 'method': 'other', 'tasks': ('agesup', 'agesub'), 'teacher': '2', 'starts_from': '5',
             'scale': 'laptop',
             'variant': 'blocks', 'z': 'pooled', 'sub_to_sup': 'features', 'adapter': 'average', 'context': 'backdoor', 'init': 7, 'trained': False, 'reestimate': True,
             'age_loss': 'asl_official', 'dist': 'mse', 'dist_level': 'embedding', 'dep': 'shifted', 'student_view': 'both', 'teacher_view': 'mixup', 'precision': 'bf16',
             'drops': (3,), 'max_frames': 77, 'window': 20, 'kind': 'symmetric', 'edge': 'circular', 'freq_cut': 'mask', 'losses': (('agesup', 'mover'),),
             'remedy': (('replay', .5),)}
    if name in known:
        assert known[name] != value, f"{name}: {value!r} is no other value"
        return known[name]
    if isinstance(value, bool): return not value
    if isinstance(value, int | float): return value + 1 if isinstance(value, int) else value / 2 + .01
    pytest.fail(f"no other value known for the new switch {name!r}={value!r}: add one here, and a place for it in graph_of")


def moved(thing, path=''): # the recipe with each switch moved in turn
    for f in fields(thing):
        value = getattr(thing, f.name)
        if is_dataclass(value): yield from ((p, replace(thing, **{f.name: v})) for p, v in moved(value, f'{path}{f.name}.'))
        elif f.name not in ('row', 'against'): yield path + f.name, replace(thing, **{f.name: other(f.name, value)})


@pytest.mark.parametrize('row', ['3', '4a', '5', '6'])
def test_every_switch_shows(row):
    r = ROWS[row]
    seen = set()
    for name, changed in moved(r):
        if not sound(changed): continue
        seen.add(name)
        assert not same(r, changed), f"{name} changes the record and not the graph"
        assert changes(r, changed), name
    assert set(switches(r)) - seen <= {'sub_to_sup', 'objective.dep', 'context', 'objective.dist', 'tasks'} # these do not fit every row
    assert same(r, replace(r, row='x')) and changes(r, replace(r, row='x')) == []


@pytest.mark.parametrize('name', [
    'objective.dist_weight', 'objective.dist', 'objective.dist_level', 'adapter', 'settings.mixup.lam', 'settings.mixup.window', 'settings.student_view',
    'objective.gamma_pos', 'objective.gamma_neg', 'objective.margin', 'objective.age_loss', 'objective.dep', 'z', 'teacher', 'init', 'context'])
def test_mechanisms_are_not_idle(name):
    "In +MKD+CH each of these acts: on an arrow or a node, not among the idle"
    changed = dict(moved(SIX))[name]
    assert any(c.how != 'idle' and c.where not in ('method', 'schedule') for c in changes(SIX, changed))


def test_idle_is_what_nobody_reads():
    assert all(graph_of(r).graph['idle'] == {} for r in ROWS.values())
    assert graph_of(loss(dep='constant')).graph['idle'] == {'objective.dep': 'constant'}
    assert graph_of(loss(ROWS['3'], gamma_neg=2.)).graph['idle'] == {'objective.gamma_neg': 2.}
    assert graph_of(mix(lam=1.)).graph['idle'] == {'settings.mixup.lam': 1.} or graph_of(mix(lam=1.)).graph['idle'] == {}


def test_rows_differ_as_their_records_do():
    rows = list(FIXED.values()) + list(ROWS.values())
    graphs, records = [graph_of(r) for r in rows], [digest({k: v for k, v in plain(r).items() if k not in ('row', 'against')}) for r in rows]
    for a, ka in zip(graphs, records):
        for b, kb in zip(graphs, records): assert same(a, b) == (ka == kb)


def test_all_ablations_have_graphs():
    ablations = pytest.importorskip('mkdcls.ablations')
    rows = ablations.ablation_rows(preset_of('smoke'))
    for r in rows.values():
        assert all(callable(resolve(m)) for *_, m in graph_of(r).edges(data='mechanism'))
    for name in ('features', 'reversed', 'kloss', 'kz', 'sumce', 'dep_constant'):
        r = rows[name]
        m = build(r, 0, None if r.teacher is None else build(rows[r.teacher], 0).student)
        assert disagreements(graph_of(r), measured_graph(m, r)) == [], name


# ---- what the graph says

@pytest.mark.parametrize('row', ROWS)
def test_mechanisms_are_code(row):
    g = graph_of(ROWS[row])
    assert all(callable(resolve(m)) for *_, m in g.edges(data='mechanism'))
    assert all(callable(resolve(m)) for v, m in g.nodes(data='loss') if m)
    assert all(w in ('forward', 'training', 'both') for *_, w in g.edges(data='when'))


@pytest.mark.parametrize('kind', ['ce', 'asl', 'asl_official'])
def test_the_loss_named_is_the_loss_used(kind):
    r = loss(age_loss=kind, gamma_neg=2., margin=.1, smoothing=.2)
    g, logits, y = graph_of(r), torch.randn(6, 3), torch.arange(6) % 3
    about = g.nodes['Y_agesup']
    s = {k.removeprefix('objective.'): v for k, v in about['setting'].items() if k != 'kind'}
    f = resolve(about['loss'])
    assert f is (smoothed_ce if kind == 'ce' else asymmetric_loss)
    mine = f(logits, y, **s, reduction='none', **({'official': True} if kind == 'asl_official' else {}))
    torch.testing.assert_close(mine, task_loss('agesup', logits, y, r.objective))


def test_figure_4():
    g = paper_graph()
    assert len(g) == 9 and len(g.edges) == 10 and nx.is_directed_acyclic_graph(g) and all(e['paper'] for *_, e in g.edges(data=True))
    assert set(paper_graph(utterance=True).edges) - set(g.edges) == {('U', 'X'), ('U', 'K')}
    assert nx.is_d_separator(g, 'X', 'K', set()) and not nx.is_d_separator(paper_graph(utterance=True), 'X', 'K', set())


@pytest.mark.parametrize('name', FIXED)
def test_separations_are_implied_and_enough(name):
    g = forward(graph_of(FIXED[name]))
    found = separations(g)
    for s in found: assert nx.is_d_separator(g, {s.node}, set(s.others), set(s.given)) and '⟂' in s.words()
    n_pairs = sum(len(s.others) for s in found)
    assert n_pairs == len(g)*(len(g) - 1)//2 - len(g.edges) # one for each pair without an arrow


def test_constructed_separations_are_exact():
    bench = Bench(model_of(SIX), torch.randn(4, 40, 80), torch.full((4,), 40))
    base = bench()
    for s in separations(graph_of(SIX)):
        if s.check != 'by construction': continue
        held = {n: base[n] for n in s.given}
        assert torch.equal(bench(held | {n: shaken(base[n]) for n in s.others})[s.node], bench(held)[s.node])


def test_backdoor_cuts_u_from_z():
    g = intervene(forward(graph_of(replace(SIX, context='backdoor'))), 'X')
    assert nx.is_d_separator(g, 'U', 'Y_gender', set())
    assert not nx.is_d_separator(intervene(forward(graph_of(SIX)), 'X'), 'U', 'Y_gender', set())


# ---- the formula

def table(cells):
    "P(u) P(x|u) P(k|u) and E(y|x,k) from twelve weights"
    w = [Fraction(c, 20) for c in cells]
    return pd.DataFrame([dict(U=u, X=x, K=k, Y=w[4 + 2*x + k], p=Fraction(1, 2)*(w[u] if x else 1 - w[u])*(w[2 + u] if k else 1 - w[2 + u]))
                         for u in (0, 1) for x in (0, 1) for k in (0, 1)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 19), min_size=8, max_size=8))
def test_back_door_formula(cells):
    "Adjusting for K is right, exactly: it equals the mean of Y with X set and U, K left alone; and it equals the plain mean where X and K are independent"
    t, w = table(cells), [Fraction(c, 20) for c in cells]
    p_k = sum(w[2 + u] for u in (0, 1))/2
    truth = {x: (1 - p_k)*w[4 + 2*x] + p_k*w[5 + 2*x] for x in (0, 1)}
    assert adjusted(t, 'X', 'Y', over='K') == truth == adjusted(t, 'X', 'Y', over='U')
    if w[0] == w[1] or w[2] == w[3]: assert observed(t, 'X', 'Y') == truth


def test_independence_makes_adjustment_idle():
    t = table([5, 5, 3, 17, 1, 9, 4, 18])
    assert observed(t, 'X', 'Y') == adjusted(t, 'X', 'Y', over='K')


def test_pairs_that_never_occur():
    t = table([5, 15, 3, 17, 1, 9, 4, 18])
    with pytest.raises(ValueError, match=r'X=0 was never seen with K in \[1\]'): adjusted(t[t['X'] == t['K']], 'X', 'Y', over='K')


# ---- dependence

@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_cka(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert np.isclose(cka(a, b), cka(b, a)) and 0 <= cka(a, b) <= 1 and np.isclose(cka(a, a), 1)
    assert np.isclose(cka(2*a @ turn + 3, b), cka(a, b))


def test_permuted_stays_in_its_groups():
    groups = np.repeat([0, 1, 2], 5)
    a = np.eye(3)[groups] # constant within a group: dealing inside changes nothing
    assert np.allclose(permute_pairs(a, a, groups, draws=5), 1) and permute_pairs(a, a, draws=20).max() < 1
    assert np.allclose(permute_pairs(np.eye(15), a, groups, draws=5), cka(np.eye(15), a))
    assert np.array_equal(permute_pairs(a, a, draws=3, seed=1), permute_pairs(a, a, draws=3, seed=1))


# ---- surgery, drawing, errors

def test_surgery_leaves_the_original():
    g = graph_of(SIX)
    n = len(g.edges)
    assert not without(g, ('K', 'Z')).has_edge('K', 'Z') and not list(intervene(g, 'Z').predecessors('Z')) and len(g.edges) == n
    assert changes(g, without(g, ('K', 'Z'))) == [Change('removed', 'K → Z', 'mkdcls.model.shared')]
    assert changes(without(g, ('K', 'Z')), g) == [Change('added', 'K → Z', 'mkdcls.model.shared')]


@pytest.mark.parametrize('act,text', [
    (lambda g: without(g, ('K', 'Y_gender')), 'no edge K → Y_gender; the graph has U → X'),
    (lambda g: without(g, ('K', 'nobody')), "no node 'nobody' in this graph; it has"),
    (lambda g: intervene(g, 'nobody'), "no node 'nobody'"),
    (lambda g: check_graph(nx.DiGraph([('X', 'Q')])), 'not of this method; known are'),
    (lambda g: check_graph(nx.DiGraph([('X', 'Z')])), "when=None; allowed are"),
    (lambda g: resolve('mkdcls.model.nothing'), 'names nothing in the code'),
    (lambda g: resolve('nothing'), 'names nothing in the code'),
    (lambda g: figure_graph(nx.DiGraph([('X', 'Q')])), 'no place for the nodes'),
    (lambda g: generator_graph(('f1_scale',)), 'stand between'),
    (lambda g: generator_graph(('height',)), 'no latent'),
    (lambda g: graph_of(replace(SIX, tasks=())), 'allowed are'),
    (lambda g: graph_of(replace(SIX, tasks=('gender', 'gender'))), 'each once'),
    (lambda g: graph_of(replace(SIX, z='both')), "allowed are ('embedding', 'pooled', 'student')"),
    (lambda g: graph_of(replace(SIX, context='front door')), "allowed are ('none', 'backdoor', 'prototypes')"),
    (lambda g: graph_of(replace(ROWS['3'], sub_to_sup='features')), "joins 'agesub' and 'agesup'"),
    (lambda g: graph_of(replace(SIX, context='backdoor', z='student')), 'averages over K in Z'),
    (lambda g: graph_of(replace(ROWS['3'], context='prototypes', tasks=('gender',))), "needs 'agesub' or 'agesup'"),
    (lambda g: graph_of(replace(SIX, context='prototypes', sub_to_sup='reversed')), "context='none' only")])
def test_errors_say_what_is_allowed(act, text):
    with pytest.raises(ValueError) as e: act(graph_of(SIX))
    assert text in str(e.value)


def test_what_build_refuses_has_no_graph():
    for r in (replace(SIX, tasks=('gender', 'height')), replace(ROWS['3'], sub_to_sup='features'), replace(SIX, context='backdoor', z='student')):
        assert not sound(r)
        with pytest.raises(ValueError): model_of(r)


def test_circles():
    g = forward(graph_of(SIX))
    g.add_edge('Y_gender', 'X', when='forward', mechanism='')
    with pytest.raises(ValueError, match='run in a circle: .*X'): check_graph(g)
    g['Y_gender']['X']['when'] = 'training'
    assert check_graph(g) is g
    assert not nx.is_directed_acyclic_graph(graph_of(SIX)) # training arrows may close one


def test_every_node_has_words_and_letters():
    for v in graph_of(replace(SIX, context='backdoor')): assert node_words(v) and letters(v).startswith('$')


def test_renamed_keeps_the_shape():
    g = generator_graph(('f0_st', 'hnr_db', 'rate_syl_s'))
    assert set(g.edges) == {('age', 'f0_st'), ('female', 'f0_st'), ('age', 'hnr_db'), ('female', 'hnr_db'), ('age', 'rate_syl_s')}
    assert nx.is_isomorphic(g, renamed(g, 1)) and set(renamed(g, 1)) == set(g) and nx.utils.graphs_equal(renamed(g, 1), renamed(g, 1))


def test_pictures_do_not_say_that_printed_arrows_carry_values():
    "Figure 4 has no code behind it; its two arrows from Y_agesub exist in training only once there is code"
    import matplotlib.pyplot as plt
    from mkdcls.causal import arrow_look, figure_pair
    printed, code = paper_graph(), graph_of(SIX)
    assert {arrow_look(about) for *_, about in printed.edges(data=True)} == {('-', '.45')}
    assert all(arrow_look(about)[1] != '.45' for *_, about in code.edges(data=True))
    for graph, said in ((printed, 'printed in the paper'), (code, 'carries values')):
        fig = figure_pair(graph)
        key = [t.get_text() for t in fig.legends[0].get_texts()]
        plt.close(fig)
        assert any(said in t for t in key) and ('carries values' in ' '.join(key)) == (graph is code)
    assert [code.edges['Y_agesub', b]['when'] for b in ('H_agesup', 'Y_agesup')] == ['training', 'training']
