"A corpus as downloaded: archives are folders, pieces are archives, names are NFC, and nothing unsafe is listed or read"
import bz2
import gzip
import io
import lzma
import multiprocessing as mp
import os
import random
import struct
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import soundfile as sf

from mkdcls.engine import archives
from mkdcls.engine.archives import BOMB, OUTSIDE, TWINS, UNREADABLE, Tree, exists, open_audio_source, read_bytes

KOREAN = {"원천/일반남여_M_37/0001.wav": b"RIFF" + bytes(300), "라벨/일반남여_M_37/0001.json": '{"성별": "남"}'.encode(), "a.txt": b""}
def nfd(s): return normalize("NFD", s)


def zipped(files, **kwargs) -> bytes:
    "A zip; names given as bytes are stored as they are, without the UTF-8 flag"
    out, swaps = io.BytesIO(), []
    with zipfile.ZipFile(out, "w", **{"compression": zipfile.ZIP_DEFLATED, **kwargs}) as z:
        for i, (name, data) in enumerate(files.items() if isinstance(files, dict) else files):
            if isinstance(name, bytes):
                swaps.append((chr(0x41 + i) * len(name), name))
                name = swaps[-1][0]
            z.writestr(name, data)
    out = out.getvalue()
    for placeholder, name in swaps: out = out.replace(placeholder.encode(), name)
    return out


def tarred(files, mode="w", **kwargs) -> bytes:
    "A tar; a value may be a TarInfo, for what is not a file"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, **kwargs) as t:
        for name, data in files.items() if isinstance(files, dict) else files:
            if isinstance(data, tarfile.TarInfo): t.addfile(data)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pieces(name, data, *cuts):
    "As AI-Hub's downloader leaves them: the number is where a piece begins"
    cuts = [0, *cuts, len(data)]
    return {f"{name}.part{a}": data[a:b] for a, b in zip(cuts, cuts[1:])}


def lay(folder, files):
    for name, data in files.items():
        p = folder / name
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(data)
    return folder


def contents(tree): return {n: tree.read(n) for n in tree.names}
def faults(tree): return [(n, reason) for n, reason, _ in tree.faults]
def noise(n, seed=0): return random.Random(seed).randbytes(n)


# ---- folders and archives

def test_a_folder_on_disk_whatever_its_unicode_form(tmp_path):
    lay(tmp_path, {nfd(k): v for k, v in KOREAN.items()} | {".DS_Store": b"x", nfd("원천/._0001.wav"): b"x", "__MACOSX/a.wav": b"x"})
    tree = Tree(tmp_path)
    assert tree.names == sorted(KOREAN) and contents(tree) == KOREAN and tree.faults == []
    for name in KOREAN:
        assert Path(tree.path(name)).is_file(), "a Location of an ordinary file opens with anything"
        assert tree.size(name) == len(KOREAN[name])
        assert read_bytes(tmp_path / name) == KOREAN[name] and exists(f"{tmp_path}/{name}"), "and its NFC form opens with us"
        assert open_audio_source(f"{tmp_path}/{name}") == tree.path(name)
    assert Tree(f"{tmp_path}/원천").names == ["일반남여_M_37/0001.wav"]


def test_two_folders_that_read_the_same(tmp_path):
    lay(tmp_path, {"라벨/a.json": b"1", nfd("라벨") + "/b.json": b"2", "라벨/c.json": b"3", nfd("라벨") + "/c.json": b"4"})
    tree = Tree(tmp_path)
    assert tree.names == ["라벨/a.json", "라벨/b.json", "라벨/c.json"] and faults(tree) == [("라벨/c.json", TWINS)]
    assert [tree.read(n) for n in tree.names][:2] == [b"1", b"2"] and tree.read("라벨/c.json") in (b"3", b"4")
    assert read_bytes(f"{tmp_path}/라벨/b.json") == b"2", "looked for in both folders"


def test_names_on_disk_in_cp949(tmp_path):
    folder = os.fsencode(tmp_path) + b"/" + "노인남여".encode("cp949")
    try: os.mkdir(folder)
    except OSError: pytest.skip("this disk takes UTF-8 names only")
    with open(folder + b"/" + "김.wav".encode("cp949"), "wb") as f: f.write(b"x")
    tree = Tree(tmp_path)
    assert tree.names == ["노인남여/김.wav"] and tree.read(tree.names[0]) == b"x"
    tree.path(tree.names[0]).encode()
    assert read_bytes(open_audio_source(tree.path(tree.names[0]))) == b"x"


PACKED = {"c.zip": zipped(KOREAN), "stored.zip": zipped(KOREAN, compression=zipfile.ZIP_STORED), "b.zip": zipped(KOREAN, compression=zipfile.ZIP_BZIP2),
          "c.tar": tarred(KOREAN), "gnu.tar": tarred(KOREAN, format=tarfile.GNU_FORMAT), "c.tar.gz": tarred(KOREAN, "w:gz"), "c.tgz": tarred(KOREAN, "w:gz"),
          "c.tar.bz2": tarred(KOREAN, "w:bz2"), "c.tar.xz": tarred(KOREAN, "w:xz"), "C.ZIP": zipped(KOREAN), "truly a tar.zip": tarred(KOREAN),
          "PK.tar": tarred({"PK_1.txt": b"", **KOREAN}), "front.zip": b"#!/bin/sh\n" + zipped(KOREAN)}


@pytest.mark.parametrize("name", PACKED)
def test_an_archive_is_a_folder(tmp_path, name):
    lay(tmp_path, {f"in/{name}": PACKED[name]})
    before = sorted(tmp_path.rglob("*"))
    for tree, prefix in ((Tree(tmp_path), f"in/{name}/"), (Tree(tmp_path / "in" / name), "")):
        want = {prefix + k: v for k, v in ({"PK_1.txt": b""} if name[:2] == "PK" else {}).items()} | {prefix + k: v for k, v in KOREAN.items()}
        assert contents(tree) == want and tree.names == sorted(want) and tree.faults == []
        for n in want:
            assert tree.path(n) == f"{tmp_path}/in/{name}/{n[len(prefix):]}" and tree.size(n) == len(want[n])
            assert read_bytes(tree.path(n)) == read_bytes(Path(nfd(tree.path(n)))) == open_audio_source(tree.path(n)).read() == want[n]
            assert exists(tree.path(n)) and not exists(tree.path(n) + "x")
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"
    with pytest.raises(FileNotFoundError, match="holds no file 원천/none.wav: compare"): read_bytes(f"{tmp_path}/in/{name}/원천/none.wav")


def test_audio_through_an_archive(tmp_path):
    out, wave = io.BytesIO(), (np.arange(800, dtype=np.int16) * 7)
    sf.write(out, wave, 8000, format="WAV")
    lay(tmp_path, {"c.zip": zipped({"a.wav": out.getvalue()}), "b.wav": out.getvalue()})
    for n in ("c.zip/a.wav", "b.wav"):
        got, rate = sf.read(open_audio_source(tmp_path / n), dtype="int16")
        assert (got == wave).all() and rate == 8000


def test_a_folder_may_have_an_archives_name(tmp_path):
    lay(tmp_path, {"c.zip/d.tar/a.wav": b"1", "e.zip": tarred({"f.tar/a.wav": b"2"})})
    tree = Tree(tmp_path)
    assert contents(tree) == {"c.zip/d.tar/a.wav": b"1", "e.zip/f.tar/a.wav": b"2"} and tree.faults == []


def test_names_in_zips_without_the_utf8_flag(tmp_path):
    kinds = {"cp949": lambda s: s.encode("cp949"), "utf-8": lambda s: s.encode(), "mac": lambda s: nfd(s).encode(), "flag": str, "flag mac": nfd}
    for kind, encode in kinds.items(): lay(tmp_path, {f"{kind}.zip": zipped({encode(k): v for k, v in KOREAN.items()})})
    both = {"회화/a.wav".encode("cp949"): b"1", "자유대화.wav".encode("cp949"): b"2", "새로.wav".encode(): b"3", b"\xff\xffa.wav": b"4"}
    assert "회화".encode("cp949").decode() == "ȸȭ", "valid as UTF-8 too"
    lay(tmp_path, {"both.zip": zipped(both)})
    tree = Tree(tmp_path)
    for kind in kinds: assert {n.partition("/")[2]: tree.read(n) for n in tree.under(f"{kind}.zip")} == KOREAN, kind
    left = b"\xff\xffa.wav".decode("cp437")
    assert contents(Tree(tmp_path / "both.zip")) == {normalize("NFC", left): b"4", "새로.wav": b"3", "자유대화.wav": b"2", "회화/a.wav": b"1"}


def test_names_in_tars_in_cp949(tmp_path):
    lay(tmp_path, {"a.tar": tarred(KOREAN, format=tarfile.GNU_FORMAT, encoding="cp949"), "b.tar": tarred({"./" + nfd(k): v for k, v in KOREAN.items()})})
    assert contents(Tree(tmp_path / "a.tar")) == contents(Tree(tmp_path / "b.tar")) == KOREAN


def test_backslashes_in_zips_are_folders(tmp_path):
    lay(tmp_path, {"w.zip": zipped([("clips@a.wav", b"1"), ("clips@", b"")]).replace(b"clips@", b"clips\\")})
    assert contents(Tree(tmp_path)) == {"w.zip/clips/a.wav": b"1"}


# ---- pieces, and archives in archives

def test_pieces_are_one_archive(tmp_path):
    inner = zipped(KOREAN)
    cut = pieces("TS_D01.zip", inner, 9, 100, 105)  # as text, 100 would come before 9
    assert list(cut) != sorted(cut)
    lay(tmp_path, {f"disk/{k}": v for k, v in cut.items()})
    lay(tmp_path, {"download.tar": tarred({f"007.저음질/{k}": v for k, v in reversed(cut.items())}), "z.zip": zipped(cut), "t.tgz": tarred(cut, "w:gz")})
    before = sorted(tmp_path.rglob("*"))
    tree = Tree(tmp_path)
    places = ("disk", "download.tar/007.저음질", "z.zip", "t.tgz")
    assert contents(tree) == {f"{p}/TS_D01.zip/{k}": v for p in places for k, v in KOREAN.items()} and tree.faults == []
    assert all(read_bytes(f"{tmp_path}/{n}") == tree.read(n) for n in tree.names) and sorted(tmp_path.rglob("*")) == before
    assert contents(Tree(tmp_path / "disk" / "TS_D01.zip")) == KOREAN
    held = {k: a.source.held for k, a in archives._open.items()}
    assert held[f"{tmp_path}/download.tar/007.저음질/TS_D01.zip"] == held[f"{tmp_path}/disk/TS_D01.zip"] == 0, "read where they lie"
    assert held[f"{tmp_path}/t.tgz/TS_D01.zip"] == len(inner)
    with pytest.raises(ValueError, match="is a piece of an archive: give .*TS_D01.zip,"): Tree(tmp_path / "disk" / "TS_D01.zip.part100")


def test_pieces_numbered_one_by_one_and_pieces_joined_already(tmp_path):
    data = zipped(KOREAN)
    lay(tmp_path, {f"a.zip.part{i:02d}": data[i * 40 - 40:i * 40] for i in range(1, len(data) // 40 + 2)})
    lay(tmp_path, {"b.zip": data, **pieces("b.zip", data[:-50], 60)})
    tree = Tree(tmp_path)
    assert contents(tree) == {f"{z}.zip/{k}": v for z in "ab" for k, v in KOREAN.items()} and tree.faults == []


@pytest.mark.parametrize("gone", [0, 9, 100])
def test_a_missing_piece_is_told(tmp_path, gone):
    cut = pieces("X.zip", zipped(KOREAN), 9, 100)
    del cut[f"X.zip.part{gone}"]
    lay(tmp_path / "disk", cut)
    lay(tmp_path, {"d.tar": tarred(cut), "b.wav": b"1"})
    tree = Tree(tmp_path)
    assert tree.names == ["b.wav"] and faults(tree) == [("d.tar/X.zip", UNREADABLE), ("disk/X.zip", UNREADABLE)], "and listing goes on"
    if gone < 100: assert all(f"{gone} bytes come before the piece" in detail for _, _, detail in tree.faults)
    with pytest.raises(ValueError, match=f"^{UNREADABLE}: .*X.zip: "): read_bytes(f"{tmp_path}/d.tar/X.zip/a.txt")
    assert not exists(f"{tmp_path}/d.tar/X.zip/a.txt")


def test_archives_in_archives(tmp_path):
    three = zipped({"b.tar": tarred({"a.wav": b"1", "d.zip": zipped(KOREAN)}), "c.tar.xz": tarred({"a.wav": b"2"}, "w:xz"), "a.wav": b"3"})
    lay(tmp_path, {"top.tar": tarred({"x/three.zip": three}), "top.zip": zipped({"y.zip": zipped({"a.wav": b"4"})}, compression=zipfile.ZIP_STORED)})
    tree = Tree(tmp_path)
    x = "top.tar/x/three.zip"
    assert contents(tree) == {f"{x}/a.wav": b"3", f"{x}/b.tar/a.wav": b"1", f"{x}/c.tar.xz/a.wav": b"2", "top.zip/y.zip/a.wav": b"4"}
    assert faults(tree) == [(f"{x}/b.tar/d.zip", UNREADABLE)] and "3 archives" in tree.faults[0][2]
    assert archives._open[f"{tmp_path}/top.zip/y.zip"].source.held == 0, "stored, so read where it lies"
    assert contents(Tree(tmp_path / "top.tar")) == {n[8:]: tree.read(n) for n in tree.names if n.startswith("top.tar")}


def test_what_cannot_be_held_in_memory_is_refused(tmp_path, monkeypatch):
    lay(tmp_path, {"a.tgz": tarred({"b.zip": zipped({"a.wav": noise(2000)}), "c.wav": b"1"}, "w:gz")})
    assert len(Tree(tmp_path).names) == 2
    monkeypatch.setattr(archives, "HELD_BYTES", 2000)
    archives._open.clear()
    tree = Tree(tmp_path)
    assert tree.names == ["a.tgz/c.wav"] and faults(tree) == [("a.tgz/b.zip", BOMB)]


def test_a_source_of_segments_is_the_bytes_joined(tmp_path):
    rng, data = random.Random(1), noise(500)
    lay(tmp_path, {"a": data[:200], "b": b"xx" + data[200:210] + b"y"})
    source = archives._Source([(str(tmp_path / "a"), 0, 200), (str(tmp_path / "a"), 7, 0), (str(tmp_path / "b"), 2, 10), (b"__" + data[210:] + b"_", 2, 290)])
    view = io.BufferedReader(archives._View(source), 16)
    for _ in range(300):
        a, n = rng.randrange(520), rng.randrange(60)
        assert source.at(a, n) == data[a:a + n] == archives._Source(source.part(a, n)).at(0, 99)
        view.seek(a)
        assert view.read(n) == data[a:a + n]
    assert view.seek(-5, 2) == 495 and view.read() == data[495:]


# ---- what is unsafe or damaged

OUT = ("/etc/passwd", "../up.wav", "a/../../up.wav", "C:/a.wav", "C:a.wav", "..\\up.wav", "\\\\server\\a.wav")


def test_names_that_lead_out_are_not_listed(tmp_path):
    lay(tmp_path, {"z.zip": zipped({**dict.fromkeys(OUT, b"x"), "./ok//a.wav": b"1"}), "t.tar": tarred({**dict.fromkeys(OUT, b"x"), "./ok//a.wav": b"1"})})
    tree = Tree(tmp_path)
    assert contents(tree) == {"t.tar/ok/a.wav": b"1", "z.zip/ok/a.wav": b"1"}
    assert sorted(faults(tree)) == sorted((f"{a}/{n}", OUTSIDE) for a in ("t.tar", "z.zip") for n in OUT)
    for n in OUT: assert not exists(f"{tmp_path}/z.zip/{n}")
    with pytest.raises(FileNotFoundError): read_bytes(f"{tmp_path}/z.zip/../../none")


def test_links_and_devices_in_archives_are_not_listed(tmp_path):
    def info(name, kind, link=""):
        t = tarfile.TarInfo(name)
        t.type, t.linkname = kind, link
        return t
    odd = [info("sym.wav", tarfile.SYMTYPE, "/etc/passwd"), info("hard.wav", tarfile.LNKTYPE, "a.wav"),
           info("dev.wav", tarfile.CHRTYPE), info("pipe.wav", tarfile.FIFOTYPE)]
    link = zipfile.ZipInfo("sym.wav")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    lay(tmp_path, {"t.tar": tarred([("a.wav", b"1"), *(("", o) for o in odd)]), "z.zip": zipped([("a.wav", b"1"), (link, "/etc/passwd")])})
    tree = Tree(tmp_path)
    assert tree.names == ["t.tar/a.wav", "z.zip/a.wav"]
    assert faults(tree) == [(f"t.tar/{o.name}", OUTSIDE) for o in odd] + [("z.zip/sym.wav", OUTSIDE)]
    with pytest.raises(ValueError, match=f"^{OUTSIDE}: .*sym.wav: it is a link"): read_bytes(f"{tmp_path}/t.tar/sym.wav")


def test_links_on_disk(tmp_path):
    data = zipped({"a.wav": b"1"})
    lay(tmp_path, {"out/secret.wav": b"x", "out/o.zip": data, "out/p": data[50:], "in/a.wav": b"1", "in/deep/b.wav": b"2", "in/P.zip.part0": data[:50]})
    links = {"f.wav": "../out/secret.wav", "d": "../out", "o.zip": "../out/o.zip", "abs.wav": f"{tmp_path}/out/secret.wav", "P.zip.part50": "../out/p"}
    fine = {"same.wav": "deep/b.wav", "loop": ".", "dangling.wav": "none.wav"}
    for name, target in {**links, **fine}.items(): os.symlink(target, tmp_path / "in" / name)
    os.mkfifo(tmp_path / "in" / "pipe.wav")
    tree = Tree(tmp_path / "in")
    assert contents(tree) == {"a.wav": b"1", "deep/b.wav": b"2", "same.wav": b"2"}
    assert sorted(faults(tree)) == sorted([*((n, OUTSIDE) for n in [*links, "pipe.wav"]), ("dangling.wav", "audio missing")])
    os.symlink("in", tmp_path / "link")
    assert Tree(tmp_path / "link").names == tree.names, "the root itself may be a link"


@pytest.fixture(scope="module")
def bomb():
    "A zip of 100 MB of zeros, and a small file"
    return zipped({"a.wav": b"1", "zeros.wav": bytes(100 << 20)}, compresslevel=1)


def test_bombs_are_not_listed_and_not_read(tmp_path, bomb):
    gz = tarred({"a.wav": b"1", "zeros.wav": bytes(70 << 20), "late.wav": b"2"}, "w:gz", compresslevel=1)
    loud = zipped({"loud.wav": noise(1000) * 1000})  # shrinks well, and is small
    lay(tmp_path, {"z.zip": bomb, "t.tgz": gz, "l.zip": loud, "n.zip": zipped({"z.zip": bomb})})
    tree = Tree(tmp_path)
    assert tree.names == ["l.zip/loud.wav", "n.zip/z.zip/a.wav", "t.tgz/a.wav", "z.zip/a.wav"]
    assert faults(tree) == [("n.zip/z.zip/zeros.wav", BOMB), ("t.tgz", BOMB), ("z.zip/zeros.wav", BOMB)]
    for n in ("z.zip/zeros.wav", "t.tgz/zeros.wav", "t.tgz/late.wav", "n.zip/z.zip/zeros.wav"):
        with pytest.raises(ValueError, match=f"^{BOMB}: {tmp_path}/{n}: "): read_bytes(tmp_path / n)
        assert not exists(tmp_path / n)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_member_that_becomes_more_than_it_declares_is_stopped(tmp_path, method, monkeypatch):
    data = zipped({"a.wav": bytes(1 << 20)}, compression=method)
    lay(tmp_path, {"z.zip": data.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 1000))})
    got = []
    class Spy:
        def __init__(self, inner): self.inner = inner
        def decompress(self, data, n):
            got.append(len(out := self.inner.decompress(data, n)))
            return out
    unpack = archives._UNPACK[method]
    monkeypatch.setitem(archives._UNPACK, method, lambda: Spy(unpack()))
    with pytest.raises(ValueError, match=f"^{BOMB}: .*a.wav: it becomes more than the 1000 bytes"): Tree(tmp_path).read("z.zip/a.wav")
    assert got == [1001]


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path):
    t = tarfile.TarInfo("././@LongLink")
    t.type, t.size = tarfile.GNUTYPE_LONGNAME, 50 << 20
    t = t.tobuf(format=tarfile.GNU_FORMAT)
    lay(tmp_path, {"a.tar": tarred({"a.wav": b"1"})[:1024] + t + bytes(5000), "b.tgz": gzip.compress(t + bytes(50 << 20), 1)})
    tree = Tree(tmp_path)
    assert tree.names == ["a.tar/a.wav"] and faults(tree) == [("a.tar", UNREADABLE), ("b.tgz", UNREADABLE)]
    assert all("a header claims 52428800 bytes" in d for _, _, d in tree.faults)


def test_encrypted_files_and_foreign_methods(tmp_path):
    z = zipped({"a.wav": b"1", "b.wav": b"2", "c.wav": b"3"}, compression=zipfile.ZIP_STORED)
    at = [z.index(b"PK\1\2" if i else b"PK\3\4") + (8 if i else 6) for i in (0, 1)]  # the flags of the first file, in its header and in the directory
    locked = bytearray(z)
    for i in at: locked[i] |= 1
    foreign = bytearray(z)
    for i in at: foreign[i + 2] = 9  # Deflate64
    lay(tmp_path, {"l.zip": bytes(locked), "f.zip": bytes(foreign)})
    tree = Tree(tmp_path)
    assert tree.names == ["f.zip/b.wav", "f.zip/c.wav", "l.zip/b.wav", "l.zip/c.wav"] and faults(tree) == [("f.zip", UNREADABLE), ("l.zip", UNREADABLE)]
    assert tree.faults[1][2].startswith("1 of 3 files, first a.wav, are encrypted: ask") and "Deflate" in tree.faults[0][2]
    with pytest.raises(ValueError, match=f"^{UNREADABLE}: .*l.zip/a.wav: it is encrypted"): read_bytes(tmp_path / "l.zip/a.wav")


def test_archives_that_are_no_archives(tmp_path):
    z = zipped({"a.wav": noise(5000), "b.wav": b"2"})
    bad = {"cut.zip": z[:-30], "empty.zip": b"", "page.zip": b"<html>not found</html>" * 50, "page.tar": b"<html>" * 500, "page.tar.gz": gzip.compress(b"x" * 2000),
           "middle.zip": z[:1000] + z[2000:], "cut.tar.xz": tarred({"a.wav": noise(5000)}, "w:xz")[:200], "noise.tar.bz2": b"BZh9" + noise(500)}
    lay(tmp_path, {**bad, "d.tar": tarred({f"in/{k}": v for k, v in bad.items()}), "a.wav": b"1"})
    tree = Tree(tmp_path)
    assert tree.names == ["a.wav"] and sorted(faults(tree)) == sorted((p + k, UNREADABLE) for k in bad for p in ("", "d.tar/in/"))
    assert all("download it again" in d for _, _, d in tree.faults)
    for n in bad:
        with pytest.raises(ValueError, match=f"^{UNREADABLE}: {tmp_path}/{n}: "): Tree(tmp_path / n)
        with pytest.raises(ValueError, match=f"^{UNREADABLE}: {tmp_path}/d.tar/in/{n}: "): read_bytes(f"{tmp_path}/d.tar/in/{n}/a.wav")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_tar_gives_what_comes_before(tmp_path, pack):
    files = {f"{i}.wav": noise(3000, i) for i in range(4)}
    whole = tarred(files)
    place = whole.index(b"2.wav")
    bad = bytearray(whole)
    bad[place + 1] ^= 1
    lay(tmp_path, {"header.tar": pack(bytes(bad)), "cut.tar": pack(whole[:place + 600]), "ends.tar": pack(whole[:whole.index(b"3.wav")])})
    tree = Tree(tmp_path)
    assert contents(tree) == {f"{a}.tar/{i}.wav": files[f"{i}.wav"] for a, k in (("cut", 2), ("ends", 3), ("header", 2)) for i in range(k)}
    assert faults(tree) == [("cut.tar", UNREADABLE), ("header.tar", UNREADABLE)]
    with pytest.raises(ValueError, match=f"^{UNREADABLE}: .*3.wav: .*what comes before is read"): read_bytes(tmp_path / "header.tar/3.wav")


def test_a_tar_gz_cut_off(tmp_path):
    files = {f"{i}.wav": noise(30000, i) for i in range(9)}
    lay(tmp_path, {"a.tgz": tarred(files, "w:gz")[:150000]})
    tree = Tree(tmp_path)
    assert faults(tree) == [("a.tgz", UNREADABLE)] and 3 <= len(tree.names) <= 4 and all(tree.read(n) == files[n[6:]] for n in tree.names)


def test_damaged_members(tmp_path):
    z = zipped({"a.wav": noise(5000), "b.wav": b"2", "c.wav": bytes(5000)}, compression=zipfile.ZIP_STORED)
    crc = bytearray(z)
    crc[200] ^= 1
    deflated = bytearray(zipped({"a.wav": noise(1000) + bytes(range(256)) * 9 + noise(1000).hex().encode(), "b.wav": b"2", "c.wav": b""}))
    deflated[100:130] = noise(30, 5)
    short = zipped({"a.wav": noise(5000), "b.wav": b"2", "c.wav": b""}, compression=zipfile.ZIP_STORED)
    short = short.replace(struct.pack("<II", 5000, 5000), struct.pack("<II", 5000, 6000))
    lay(tmp_path, {"crc.zip": bytes(crc), "deflated.zip": bytes(deflated), "short.zip": short})
    tree = Tree(tmp_path)
    assert len(tree.names) == 9 and tree.faults == [], "only reading shows it"
    for n, what in (("crc", "its checksum"), ("deflated", "rror"), ("short", "it gives 5000 of 6000 bytes")):
        assert tree.read(f"{n}.zip/b.wav") == b"2"
        with pytest.raises(ValueError, match=f"^{UNREADABLE}: {tmp_path}/{n}.zip/a.wav: .*{what}"): tree.read(f"{n}.zip/a.wav")


# ---- names

def test_names_that_differ_in_case_or_form(tmp_path):
    z = [("각.wav", b"1"), (nfd("각.wav"), b"2"), ("A.wav", b"3"), ("a.wav", b"4"), ("b.wav", b"5"), ("aa.tar", tarred({"x": b"6"})), ("Å/Y.WAV", b"7")]
    lay(tmp_path, {"z.zip": zipped(z), "t.tar": tarred([("각.wav", b"1"), (nfd("각.wav"), b"2")])})
    tree = Tree(tmp_path)
    assert tree.names == ["t.tar/각.wav", "z.zip/A.wav", "z.zip/a.wav", "z.zip/aa.tar/x", "z.zip/b.wav", "z.zip/Å/Y.WAV", "z.zip/각.wav"]
    assert faults(tree) == [("t.tar/각.wav", TWINS), ("z.zip/각.wav", TWINS), ("z.zip/a.wav", TWINS)]
    assert tree.read("z.zip/각.wav") == tree.read("t.tar/각.wav") == b"1", "the first is kept"
    assert tree.find(nfd("z.zip/각.wav")) == tree.find("Z.ZIP/각.WAV") == "z.zip/각.wav"
    assert (tree.find("z.zip/A.wav"), tree.find("z.zip/a.wav"), tree.find("z.zip/a.WAV")) == ("z.zip/A.wav", "z.zip/a.wav", None)
    assert tree.find("z.zip/B.wav") == "z.zip/b.wav" and tree.find(nfd("Z.zip/å/y.wav")) == "z.zip/Å/Y.WAV"
    assert tree.find("z.zip/c.wav") is None and tree.find("") is None


def test_under_a_folder(tmp_path):
    lay(tmp_path, {n: b"" for n in ("라벨/a.json", "라벨/b.JSON", "라벨/c/d.txt", "라벨2/a.json", "라벨.json", "z.wav")})
    tree = Tree(tmp_path)
    assert tree.under("라벨") == tree.under(nfd("라벨/")) == ["라벨/a.json", "라벨/b.JSON", "라벨/c/d.txt"]
    assert tree.under("라벨", (".json",)) == tree.under("라벨", ".json") == ["라벨/a.json", "라벨/b.JSON"]
    assert tree.under("") == tree.names and tree.under("", (".wav", ".txt")) == ["z.wav", "라벨/c/d.txt"] and tree.under("none") == []


def test_wrong_roots_are_told(tmp_path):
    lay(tmp_path, {"a.csv": b"x"})
    with pytest.raises(FileNotFoundError, match="none is not there: give the folder"): Tree(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="none.zip is not there: give the folder"): Tree(tmp_path / "none.zip")
    with pytest.raises(ValueError, match="a.csv is neither a folder nor named as an archive"): Tree(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match="is a folder"): read_bytes(tmp_path)
    for path in ("none.wav", "없음.wav", "none.zip/a.wav", "없음/a.wav"):
        for f in (read_bytes, open_audio_source):
            with pytest.raises(FileNotFoundError, match="is not there"): f(tmp_path / path)
        assert not exists(tmp_path / path)
    with pytest.raises(FileNotFoundError, match="holds no file b.csv: `find`"): Tree(tmp_path).read("b.csv")


def test_a_relative_root_and_an_unreadable_folder(tmp_path, monkeypatch):
    lay(tmp_path, {"c/a.wav": b"1", "c/shut/b.wav": b"2"})
    monkeypatch.chdir(tmp_path)
    assert Tree("c").path("a.wav") == f"{tmp_path}/c/a.wav" and read_bytes("c/a.wav") == b"1"
    def scandir(folder, real=os.scandir):
        if str(folder).endswith("shut"): raise PermissionError(13, "Permission denied")
        return real(folder)
    monkeypatch.setattr(archives.os, "scandir", scandir)
    tree = Tree("c")
    assert tree.names == ["a.wav"] and faults(tree) == [("shut", UNREADABLE)]


# ---- many reads

@pytest.fixture
def many(tmp_path):
    files = {f"{i:03d}.wav": noise(500 + 7 * i, i) for i in range(200)}
    mixed = dict(sorted(files.items(), key=lambda f: zlib.crc32(f[0].encode())))
    inner = zipped(mixed)
    lay(tmp_path, {"z.zip": zipped(mixed), "t.tgz": tarred(mixed, "w:gz"), "d.tar": tarred(pieces("n.zip", inner, 1000, 30000)), **files})
    return tmp_path, {p + n: d for p in ("z.zip/", "t.tgz/", "d.tar/n.zip/", "") for n, d in files.items()}


def test_an_archive_is_opened_once_and_again_when_it_changes(many, monkeypatch):
    folder, want = many
    opened, init = [], archives._Archive.__init__
    monkeypatch.setattr(archives._Archive, "__init__", lambda self, where, *a, **k: (opened.append(where[len(str(folder)) + 1:]), init(self, where, *a, **k))[1])
    tree = Tree(folder)
    for n in random.Random(0).sample(tree.names, 300): assert read_bytes(tree.path(n)) == want[n]
    assert sorted(opened) == ["d.tar", "d.tar/n.zip", "t.tgz", "z.zip"]
    lay(folder, {"d.tar": tarred({"n.zip": zipped({"000.wav": b"new"})})})
    assert read_bytes(folder / "d.tar/n.zip/000.wav") == b"new" and not exists(folder / "d.tar/n.zip/001.wav")
    os.remove(folder / "z.zip")
    with pytest.raises(FileNotFoundError): read_bytes(folder / "z.zip/000.wav")


def test_few_archives_stay_open(many, monkeypatch):
    folder, want = many
    for limit in ("OPEN_ARCHIVES", "BUDGET"):
        with monkeypatch.context() as m:
            m.setattr(archives, limit, 1)
            for n in random.Random(0).sample(sorted(want), 60):
                assert read_bytes(f"{folder}/{n}") == want[n]
                assert len(archives._open) <= archives.NESTED


def test_a_compressed_tar_is_read_in_one_pass(many, monkeypatch):
    folder, want = many
    tree = Tree(folder)
    size, read = os.path.getsize(folder / "t.tgz"), []
    source = archives._open[f"{folder}/t.tgz"].source
    monkeypatch.setattr(source, "at", lambda a, n, at=source.at: (read.append(n), at(a, n))[1])
    names = tree.under("t.tgz")
    forwards = sorted(names, key=tree.order)
    assert forwards != names
    tree.read(forwards[0])
    read.clear()
    for n in forwards[1:]: assert tree.read(n) == want[n]
    assert sum(read) <= size + (1 << 17)
    for n in names[:5]: assert tree.read(n) == want[n], "backwards it is only slow"
    assert sorted(tree.names, key=tree.order)[:200] == tree.names[:200], "files on disk first"


def test_threads_read_the_same_bytes(many):
    folder, want = many
    archives._open.clear()
    jobs = random.Random(0).sample(sorted(want), len(want)) * 2
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool: got = list(pool.map(lambda n: read_bytes(f"{folder}/{n}"), jobs))
    finally: sys.setswitchinterval(often)
    assert got == [want[n] for n in jobs]


def test_a_thread_may_stop_between_seeking_and_reading(many):
    folder, want = many
    read_bytes(f"{folder}/z.zip/000.wav")
    source = archives._open[f"{folder}/z.zip"].source
    class Slow:
        def __init__(self, file): self.file, self.read, self.close = file, file.read, file.close
        def seek(self, offset):
            self.file.seek(offset)
            time.sleep(.001)
    source.file = Slow(source.file)
    jobs = [f"z.zip/{i:03d}.wav" for i in range(40)]
    with ThreadPoolExecutor(4) as pool: assert list(pool.map(lambda n: read_bytes(f"{folder}/{n}"), jobs)) == [want[n] for n in jobs]


def _child(paths, out):
    out.put([sha256(read_bytes(p)).hexdigest() for p in paths])


def test_a_forked_process_opens_its_own(many):
    folder, want = many
    names = random.Random(0).sample(sorted(want), 100)
    for n in names: read_bytes(f"{folder}/{n}")
    context, held, free = mp.get_context("fork"), threading.Event(), threading.Event()
    def hold():
        with archives._lock:
            held.set()
            free.wait(60)
    holder, out = threading.Thread(target=hold), context.Queue()
    holder.start()
    held.wait(60)
    children = [context.Process(target=_child, args=([f"{folder}/{n}" for n in names], out), daemon=True) for _ in range(2)]
    try:
        for c in children: c.start()
        got = [out.get(timeout=60) for _ in children]
    finally:
        free.set()
        holder.join()
        for c in children: c.kill()
    assert got == [[sha256(want[n]).hexdigest() for n in names]] * 2, "though another thread held the lock as they were forked"
