# ruff: noqa: E501 (tables of kinds: one a line)
"""Archives, folders and recordings that lie, or that only look like what they are."""
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from faults.harness import kinds
from mkdcls.adapters import common_voice
from mkdcls.corpora import finish_manifest, read_audio
from mkdcls.engine import archives
from mkdcls.engine.archives import Tree
from mkdcls.validation import inspect_audio

T = np.arange(16000) / 8000
VOICE = (.3 * np.sin(2 * np.pi * 200 * T)).astype(np.float32)


def wav(wave=VOICE, rate=8000, kind="WAV", **how):
    f = io.BytesIO()
    sf.write(f, wave, rate, format=kind, **how)
    return f.getvalue()


def header(rate=8000, channels=1, bits=16, promised=32000, data=b"\1\0" * 16000, riff=None):
    return b"RIFF" + struct.pack("<I", riff or 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, channels, rate & 0xffffffff, rate * channels * bits // 8 & 0xffffffff,
                                                                                          channels * bits // 8 & 0xffff, bits) + b"data" + struct.pack("<I", promised) + data


PCM = (VOICE * 32767).astype("<i2").tobytes()
FLAC = wav(kind="FLAC")
MP3 = wav(np.tile(VOICE, 2), 8000, "MP3")


def flipped(data, at):
    data = bytearray(data)
    data[at] ^= 0xff
    return bytes(data)


SOUND = {
    "4 GB promised": (header(promised=0xfffffff0, data=PCM), {"", "audio is truncated"}), "2 GB promised": (header(promised=0x7ffffff0, data=PCM), {"", "audio is truncated"}),
    "1 GB promised": (header(promised=0x40000000, data=PCM), {"audio is truncated"}), "2^31 Hz": (header(2**31, data=PCM), {"not audio"}), "2^31 - 1 Hz": (header(2**31 - 1, data=PCM), {"not audio"}),
    "2^32 - 1 Hz": (header(2**32 - 1, data=PCM), {"not audio"}), "0 Hz": (header(0, data=PCM), {"not audio"}), "1 Hz": (header(1, data=PCM), {"rate below 8 kHz"}), "2 MHz": (header(2_000_000, data=PCM), {"not audio"}),
    "0 channels": (header(channels=0, data=PCM), {"not audio"}), "64 channels": (header(channels=64, data=PCM), {"several channels", "no samples"}), "65535 channels": (header(channels=65535, data=PCM), {"not audio", "several channels"}),
    "0 bits": (header(bits=0, data=PCM), {"not audio"}), "1000 bits": (header(bits=1000, data=PCM), {"not audio"}), "half": (wav()[:16000], {"audio is truncated"}), "header alone": (wav()[:44], {"audio is truncated", "no samples"}),
    "12 bytes": (wav()[:12], {"audio is truncated", "not audio"}), "3 bytes": (b"RIF", {"not audio"}), "no samples": (wav(VOICE[:0]), {"no samples"}), "one sample": (wav(VOICE[:1]), {"shorter than 1 s"}),
    "NaN": (wav(np.where(T > 1, np.nan, VOICE), subtype="FLOAT"), {"NaN or infinity"}), "all NaN": (wav(VOICE * np.nan, subtype="FLOAT"), {"NaN or infinity"}), "infinity": (wav(np.where(T > 1, np.inf, VOICE), subtype="FLOAT"), {"NaN or infinity"}),
    "1e30": (wav(VOICE * 1e30, subtype="FLOAT"), {"clipped"}), "1e-30": (wav(VOICE * 1e-30, subtype="FLOAT"), {"digital silence"}), "silence": (wav(VOICE * 0), {"digital silence"}), "DC": (wav(VOICE * 0 + .5), {"digital silence"}),
    "clipped": (wav(np.clip(20 * VOICE, -1, 1)), {"clipped"}), "MP3 cut": (MP3[:len(MP3) * 2 // 3 + 5], {"audio is truncated"}), "MP3 named wav": (MP3, {""}), "FLAC named wav": (FLAC, {""}),
    "FLAC cut": (FLAC[:len(FLAC) // 2], {"audio is truncated"}), "FLAC header alone": (FLAC[:60], {"audio is truncated", "not audio", "no samples"}), "ID3 alone": (b"ID3\4\0\0\0\0\0\0", {"not audio", "audio is truncated"}),
    "ID3 longer than the file": (b"ID3\4\0\0\x7f\x7f\x7f\x7f" + MP3, {"not audio", "audio is truncated"}), "Ogg mark alone": (b"OggS" + bytes(40), {"not audio", "audio is truncated"}), "empty": (b"", {"audio is empty"}),
    "HTML": (b"<html>404</html>", {"not audio"}), "zeros": (bytes(50_000), {"not audio"}), "random": (np.random.default_rng(1).bytes(50_000), {"not audio"}), "stereo": (wav(np.stack([VOICE, VOICE], 1)), {"several channels"}),
    "6 kHz": (wav(rate=6000), {"rate below 8 kHz"}), "21 s": (wav(np.resize(VOICE, 168001)), {"longer than 20 s"}), "AU that promises more": (b".snd" + struct.pack(">IIIII", 24, 64000, 3, 8000, 1) + PCM, {"audio is truncated"}),
    "RIFF of 0 bytes": (header(riff=1, data=PCM), {"", "audio is truncated", "not audio", "no samples"}), "chunk lengths without end": (b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 5000, {"not audio"})}


@kinds("audio", SOUND)
def test_a_recording(fault, kind, tmp_path):
    data, reasons = kind
    (tmp_path / "x.wav").write_bytes(data)
    wave, facts, reason = fault.survives(lambda: inspect_audio(tmp_path / "x.wav"))
    assert reason in reasons, (reason, facts)
    assert (wave is None) == (reason != "")


@kinds("audio", {"middle": .5, "near the end": .9, "early": .2})
def test_flac_with_a_bad_checksum(fault, kind, tmp_path):
    (tmp_path / "x.flac").write_bytes(flipped(FLAC, int(len(FLAC) * kind)))
    wave, _, reason = fault.survives(lambda: inspect_audio(tmp_path / "x.flac"))
    assert reason in ("audio is truncated", "not audio")


@kinds("audio", {"start": (np.inf, np.nan), "end": (0., np.inf), "huge": (1e300, np.nan), "negative": (-1., 1.), "turned round": (1.5, .5), "empty": (1., 1.), "minus infinity": (-np.inf, 1.)})
def test_segments_that_are_none(fault, kind, tmp_path):
    (tmp_path / "x.wav").write_bytes(wav())
    assert fault.survives(lambda: inspect_audio(tmp_path / "x.wav", *kind))[2] == "segment outside the audio"


def sparse(path, head, size=6 << 30):
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(size)


@kinds("audio", {"WAV": (header(promised=0xfffffff0, data=b""), "longer than 20 s"), "MP3": (MP3[:500], "not audio"), "ID3": (b"ID3\4\0\0\0\0\0\0" + MP3[:500], "not audio"), "zeros": (b"\0", "not audio"),
                 "2^31 - 1 Hz": (header(2**31 - 1, promised=0x7fff0000, data=b""), "not audio"), "FLAC": (FLAC, "")})
def test_a_sparse_file_of_6_gb_is_not_read_whole(fault, kind, tmp_path):
    sparse(tmp_path / "x.wav", kind[0])
    before = os.times()
    wave, _, reason = fault.survives(lambda: inspect_audio(tmp_path / "x.wav"), limit=10)
    assert reason in (kind[1], "audio is truncated") and os.times().user - before.user < 4


@kinds("folders")
def test_a_label_of_6_gb_is_not_read(fault, tmp_path):
    (tmp_path / "ko").mkdir()
    sparse(tmp_path / "ko" / "validated.tsv", b"client_id\tpath\tage\tgender\n")
    assert fault.survives(lambda: common_voice(Tree(tmp_path)))["fault"].tolist() == ["label cannot be read"]


def named(path, how):
    path.parent.mkdir(exist_ok=True)
    how(path)


PLACES = {"a folder": lambda p: p.mkdir(), "a pipe": os.mkfifo, "a link to nowhere": lambda p: p.symlink_to("gone"), "a link to itself": lambda p: p.symlink_to(p.name), "nothing": lambda p: None,
          "a link to a pipe": lambda p: (os.mkfifo(str(p) + "p"), p.symlink_to(str(p) + "p"))}


@kinds("folders", PLACES)
def test_what_is_no_file(fault, kind, tmp_path):
    named(tmp_path / "c" / "x.wav", kind)
    rows = dict(utterance=["x"], speaker=["s"], path=[str(tmp_path / "c" / "x.wav")], age=["30"], gender=["f"])
    assert fault.survives(lambda: finish_manifest(pd.DataFrame(rows), "c")[1]["reason"].tolist()) == ["audio missing"]
    assert inspect_audio(tmp_path / "c" / "x.wav")[2] == "audio missing"
    with pytest.raises(FileNotFoundError): read_audio(tmp_path / "c" / "x.wav")


@kinds("folders", PLACES | {"a loop of folders": lambda p: p.symlink_to(p.parent), "a socket": None})
def test_a_tree_with_what_is_no_file(fault, kind, tmp_path):
    import socket
    if kind is None:
        s = socket.socket(socket.AF_UNIX)
        (tmp_path / "c").mkdir()
        here = os.getcwd()
        os.chdir(tmp_path / "c")
        s.bind("x.wav")
        os.chdir(here)
    else: named(tmp_path / "c" / "x.wav", kind)
    (tmp_path / "c" / "y.wav").write_bytes(wav())
    assert "y.wav" in fault.survives(lambda: Tree(tmp_path / "c")).names


@kinds("folders", {"a label": "open", "a folder": "scandir"})
def test_what_may_not_be_read(fault, kind, tmp_path, monkeypatch):
    (tmp_path / "ko").mkdir()
    (tmp_path / "ko" / "validated.tsv").write_text("client_id\tpath\tage\tgender\ns\ta.mp3\ttwenties\tmale\n")
    (tmp_path / "shut").mkdir()
    def denied(path, *a, **k): raise PermissionError(13, "Permission denied", str(path))
    if kind == "open":
        monkeypatch.setattr(archives, "read_bytes", denied)
        assert fault.survives(lambda: common_voice(Tree(tmp_path)))["fault"].tolist() == ["label cannot be read"]
    else:
        real = os.scandir
        monkeypatch.setattr(os, "scandir", lambda p: denied(p) if str(p).endswith("shut") else real(p))
        assert ("shut", archives.UNREADABLE) in [f[:2] for f in fault.survives(lambda: Tree(tmp_path)).faults]


# ---- archives

def zipped(files, **how):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", **how) as z:
        for n, b in files: z.writestr(n, b)
    return f.getvalue()


def tarred(*members, fmt=tarfile.PAX_FORMAT):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode="w", format=fmt) as t:
        for info, data in members: t.addfile(info, io.BytesIO(data) if data is not None else None)
    return f.getvalue()


def member(name, data=b"x", **how):
    info = tarfile.TarInfo(name)
    info.size = len(data) if data is not None else 0
    for k, v in how.items(): setattr(info, k, v)
    return info, data


def special(kind, name="x.wav", link=""): return member(name, None, type=kind, linkname=link)


def locked():
    data = bytearray(zipped([("x.wav", b"1234")]))
    data[6] |= 1
    data[data.find(b"PK\1\2") + 8] |= 1
    return bytes(data)


def deep(n, data=None):
    data = data or zipped([("x.wav", wav())])
    for i in range(n): data = zipped([(f"{i}.zip", data)])
    return data


def many_long_names(n=3000):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = b"L", 1
    return (info.tobuf() + b"a".ljust(512, b"\0")) * n


GOODTAR = tarred(member("good.wav"))
ARCHIVES = {
    "zip: encrypted": ("x.zip", locked()), "zip: cut": ("x.zip", zipped([("x.wav", b"1" * 999)])[:-30]), "zip: half": ("x.zip", zipped([("x.wav", wav())])[:500]), "zip: six deep": ("x.zip", deep(6)),
    "zip: of zeros": ("x.zip", bytes(999)), "zip: empty": ("x.zip", b""), "zip: HTML": ("x.zip", b"<html>"), "zip: a bomb by its ratio": ("x.zip", zipped([("x.wav", bytes(70 << 20))], compression=zipfile.ZIP_DEFLATED)),
    "zip: absolute": ("x.zip", zipped([("/etc/x.wav", b"1")])), "zip: climbing": ("x.zip", zipped([("../x.wav", b"1")])), "zip: drive": ("x.zip", zipped([("C:/x.wav", b"1")])), "zip: backslashes climbing": ("x.zip", zipped([("..\\x.wav", b"1")])),
    "zip: link": ("x.zip", None), "zip: in case only": ("x.zip", zipped([("a.wav", b"1"), ("A.wav", b"2")])), "tar: HTML": ("x.tar", b"<html>" * 100), "tar: cut": ("x.tar", tarred(member("good.wav"), member("x.wav", b"1" * 5000))[:3000]),
    "tar: link to outside": ("x.tar", tarred(special(tarfile.SYMTYPE, link="../../etc/passwd"))), "tar: hard link": ("x.tar", tarred(special(tarfile.LNKTYPE, link="/etc/passwd"))), "tar: pipe": ("x.tar", tarred(special(tarfile.FIFOTYPE))),
    "tar: device": ("x.tar", tarred(special(tarfile.CHRTYPE))), "tar: block device": ("x.tar", tarred(special(tarfile.BLKTYPE))), "tar: absolute": ("x.tar", tarred(member("/etc/x.wav"))), "tar: climbing": ("x.tar", tarred(member("../x.wav"))),
    "tar: twice": ("x.tar", tarred(member("x.wav"), member("x.wav", b"y"))), "tar: long names without end": ("x.tar", GOODTAR[:1024] + many_long_names() + bytes(1024)),
    "tar: sparse map in words": ("x.tar", tarred(member("x.wav", b"x", pax_headers={"GNU.sparse.major": "0", "GNU.sparse.map": "a,b", "GNU.sparse.size": "x"}))),
    "tar: sparse 1.0 in words": ("x.tar", tarred(member("x.wav", b"x\ny\n", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "z"}))),
    "gz: cut": ("x.tar.gz", None), "gz: text": ("x.tar.gz", b"no archive"), "gz: bomb": ("x.tar.gz", None), "xz: text": ("x.tar.xz", b"\xfd7zXZ\0no"), "bz2: cut": ("x.tar.bz2", b"BZh91AY&SY")}


@kinds("archives", ARCHIVES)
def test_an_archive(fault, kind, tmp_path, request):
    import gzip
    name, data = kind
    which = request.node.callspec.id
    if which == "zip: link":
        info = zipfile.ZipInfo("x.wav")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        data = zipped([(info, "/etc/passwd")])
    if which == "gz: cut": data = gzip.compress(tarred(member("good.wav"), member("x.wav", np.random.default_rng(0).bytes(50_000))))[:30_000]
    if which == "gz: bomb": data = gzip.compress(tarred(member("x.wav", bytes(66 << 20))), 1)
    (tmp_path / name).write_bytes(data)
    try: tree = Tree(tmp_path / name)
    except ValueError:
        fault.refuses(lambda: Tree(tmp_path / name), "archive unreadable|bomb")
        return
    assert fault.survives(lambda: Tree(tmp_path / name).faults) and not [n for n in tree.names if n.startswith(("/", "..")) or ":" in n], tree.names


@kinds("archives", {"size in words": {"size": "huge"}, "time in words": {"mtime": "noon"}, "owner in words": {"uid": "me"}, "a path that climbs": {"path": "../x.wav"}, "a path with NUL": {"path": "a\0b"},
                    "a size that is negative": {"size": "-5"}, "a size beyond all": {"size": "9" * 30}})
def test_pax_headers(fault, kind, tmp_path):
    (tmp_path / "x.tar").write_bytes(tarred(member("good.wav"), member("x.wav", b"x", pax_headers=kind)))
    tree = fault.survives(lambda: Tree(tmp_path / "x.tar"))
    assert "good.wav" in tree.names and not [n for n in tree.names if ".." in n]


@kinds("archives")
def test_names_in_cp949(fault, tmp_path):
    data = bytearray(tarred(member("good.wav"), fmt=tarfile.GNU_FORMAT))
    name = "한국.wav".encode("cp949")
    data[:len(name)] = name
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "x.tar").write_bytes(bytes(data))
    assert fault.survives(lambda: Tree(tmp_path / "x.tar").names) == ["한국.wav"]


@kinds("archives", {"files": ("MEMBERS", 3), "directory": ("DIRECTORY", 100)})
def test_too_many_files(fault, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, *kind)
    (tmp_path / "x.zip").write_bytes(zipped([(f"{i}.wav", b"1") for i in range(9)]))
    tree = lambda: Tree(tmp_path / "x.zip")
    fault.refuses(tree, "decompression bomb")


@kinds("archives")
def test_a_member_too_large_to_hold(fault, tmp_path, monkeypatch):
    (tmp_path / "x.zip").write_bytes(zipped([("x.wav", wav())]))
    monkeypatch.setattr(archives, "HELD_BYTES", 100)
    assert fault.survives(lambda: inspect_audio(tmp_path / "x.zip" / "x.wav"))[2] == archives.BOMB
