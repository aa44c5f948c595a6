"""Downloads: from a server on the loopback address that may break off, lie, or serve something else."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import ssl
import tarfile
import threading
import urllib.error
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tbft.cli import main
from tbft.data import read
from tbft.errors import DataError
from tbft.scenarios import downloading, fetching
from tbft.scenarios.fetching import ARCHIVES, fetch


def packed(files: dict[str, bytes], extra: tarfile.TarInfo | None = None, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if extra is not None:
            tar.addfile(extra)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


PICTURES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
LABELS = np.tile(np.arange(4), 5)
GOOD = packed({"CIFAR-10-C/fog.npy": npy(PICTURES), "CIFAR-10-C/labels.npy": npy(LABELS)})


class Server:
    """Serves `content`; `behave` says how, one word a request, the last one for all that follow."""

    def __init__(self) -> None:
        self.content = GOOD
        self.behave = ["well"]
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/CIFAR-10-C.tar"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        how = self.behave.pop(0) if len(self.behave) > 1 else self.behave[0]
        if how.isdecimal():
            handler.send_error(int(how))
            return
        if how.startswith("redirects"):
            handler.send_response(302)
            handler.send_header("Location", how.partition(" to ")[2] or self.url)
            handler.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and how != "ignores ranges" else 0
        if start > len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            first = start - 1 if how == "another range" else start
            handler.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        told = {"too long": len(body) + 99, "too short": len(body) // 2}.get(how, len(body))
        handler.send_header("Content-Length", str(told))
        handler.end_headers()
        if how == "breaks off":
            body = body[: max(1, len(body) // 2)]
        if how == "says nothing":
            self.silent.wait(5)
            return
        handler.wfile.write(body[:told])
        handler.close_connection = True

    silent = threading.Event()


@pytest.fixture
def server(monkeypatch):
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    described = replace(
        ARCHIVES["cifar10-c"],
        url=made.url,
        size=len(GOOD),
        sha256=hashlib.sha256(GOOD).hexdigest(),
        files=("fog.npy", "labels.npy"),
    )
    monkeypatch.setitem(ARCHIVES, "cifar10-c", described)
    monkeypatch.setattr(downloading, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(downloading, "TIMEOUT_SECONDS", 2.0)
    yield made
    made.silent.set()
    made.http.shutdown()
    made.http.server_close()
    thread.join()
    made.silent.clear()


def test_an_archive_is_fetched_unpacked_and_read(server, tmp_path, capsys):
    assert main(["data", "fetch", "cifar10-c", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "CIFAR-10-C")
    samples = read(tmp_path / "CIFAR-10-C", where={"severity": "2"})
    np.testing.assert_array_equal(samples.inputs, PICTURES[4:8])
    assert [p.name for p in tmp_path.iterdir()] == ["CIFAR-10-C"]
    assert fetch("cifar10-c", tmp_path) == tmp_path / "CIFAR-10-C"
    assert len(server.ranges) == 1  # what is there is not fetched again


@pytest.mark.parametrize(
    ("behave", "requests"),
    [
        (["breaks off", "well"], 2),
        (["breaks off", "breaks off", "breaks off", "well"], 4),
        (["503", "well"], 2),
        (["says nothing", "well"], 2),
        (["redirects", "well"], 2),
    ],
)
def test_what_a_second_try_mends(server, tmp_path, monkeypatch, behave, requests):
    server.behave = behave
    if "says nothing" in behave:
        monkeypatch.setattr(downloading, "TIMEOUT_SECONDS", 0.2)
    assert (fetch("cifar10-c", tmp_path) / "fog.npy").exists()
    assert len(server.ranges) == requests


def test_a_broken_read_is_mended_too(server, tmp_path, monkeypatch):
    failures = [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError("record layer failure")]
    real = downloading.HTTPResponse.read

    def read_or_fail(self, *amount):
        if failures:
            raise failures.pop()
        return real(self, *amount)

    monkeypatch.setattr(downloading.HTTPResponse, "read", read_or_fail)
    assert fetch("cifar10-c", tmp_path).is_dir()
    assert len(server.ranges) == 3


def test_a_redirect_keeps_the_range(server, tmp_path):
    (tmp_path / "cifar10-c.part").write_bytes(GOOD[:100])
    server.behave = ["redirects", "well"]
    fetch("cifar10-c", tmp_path)
    assert server.ranges == ["bytes=100-", "bytes=100-"]


def test_cifar10_is_fetched_and_read(server, tmp_path, monkeypatch):
    rows = np.arange(2 * 3073, dtype=np.int64).astype(np.uint8).reshape(2, 3073)
    rows[:, 0] = 3, 9
    files = {f"cifar-10-batches-bin/{name}": rows.tobytes() for name in ARCHIVES["cifar10"].files}
    server.content = packed({**files, "cifar-10-batches-bin/readme.html": b"x"}, mode="w:gz")
    described = replace(
        ARCHIVES["cifar10"], size=len(server.content), sha256=hashlib.sha256(server.content).hexdigest()
    )
    monkeypatch.setitem(ARCHIVES, "cifar10", described)
    samples = read(fetch("cifar10", tmp_path, server.url))
    assert samples.labels.tolist() == [3, 9] * 6
    assert samples.where({"part": "test"}).inputs[1, 0, :2, 0].tolist() == rows[1, 1:3].tolist()


def test_a_later_run_asks_for_the_rest_only(server, tmp_path):
    server.behave = ["breaks off", "404"]
    with pytest.raises(DataError, match="the server answers 404"):
        fetch("cifar10-c", tmp_path)
    half = (tmp_path / "cifar10-c.part").stat().st_size
    assert half == len(GOOD) // 2
    server.behave = ["well"]
    fetch("cifar10-c", tmp_path)
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half}-"]
    np.testing.assert_array_equal(read(tmp_path / "CIFAR-10-C").inputs, PICTURES)


@pytest.mark.parametrize(
    ("how", "ranges"), [("ignores ranges", ["bytes=100-"]), ("another range", ["bytes=100-", None])]
)
def test_a_server_that_cannot_resume_starts_anew(server, tmp_path, how, ranges):
    (tmp_path / "cifar10-c.part").write_bytes(GOOD[:100])
    server.behave = [how]
    fetch("cifar10-c", tmp_path)
    assert server.ranges == ranges
    np.testing.assert_array_equal(read(tmp_path / "CIFAR-10-C").inputs, PICTURES)


def test_a_server_that_starts_anew_and_breaks_off_is_given_up(server, tmp_path, monkeypatch):
    lengths = [400, 100, 300, 200] * 5

    def end_early(url, part, have, size, bar):
        part.write_bytes(GOOD[: lengths.pop(0)])

    monkeypatch.setattr(downloading, "_download_rest", end_early)
    with pytest.raises(DataError, match="the connection ended after"):
        fetch("cifar10-c", tmp_path)
    assert len(lengths) == 16


@pytest.mark.parametrize("behave", ["too long", "too short", "ignores ranges", "well"])
def test_another_length_is_reported_before_a_good_part_is_overwritten(server, tmp_path, behave):
    part = tmp_path / "cifar10-c.part"
    part.write_bytes(GOOD[:100])
    server.behave = [behave]
    server.content = GOOD if behave.startswith("too") else b"<html>sign in first" * 99
    if behave.startswith("too"):
        part.unlink()
    with pytest.raises(DataError, match=r"announces .* bytes, the published file has"):
        fetch("cifar10-c", tmp_path)
    assert len(server.ranges) == 1
    assert part.read_bytes() == (b"" if behave.startswith("too") else GOOD[:100])
    server.behave, server.content = ["well"], GOOD
    fetch("cifar10-c", tmp_path)
    assert server.ranges[1:] == [None if behave.startswith("too") else "bytes=100-"]


def test_a_part_beyond_the_end_of_the_file_is_dropped(server, tmp_path):
    (tmp_path / "cifar10-c.part").write_bytes(GOOD[:5000])
    server.behave = ["416", "well"]
    fetch("cifar10-c", tmp_path)
    assert server.ranges == ["bytes=5000-", None]


@pytest.mark.parametrize(
    ("behave", "content", "message"),
    [
        (["503"], GOOD, "503.*run it again to resume"),
        (["says nothing"], GOOD, "cannot download .*timed out"),
        (["404"], GOOD, "the server answers 404"),
        (["well"], GOOD[:-1] + b"x", "it has the SHA-256 .*expected"),
        (["well"], GOOD + b"more", "announces .* bytes, the published file has"),
        (["well"], GOOD[:-600], "announces .* bytes, the published file has"),
        (["breaks off", "503"], GOOD, "503.*download it manually as .*cifar10-c.part"),
        (["redirects to ftp://127.0.0.1/x"], GOOD, "not an http"),
    ],
)
def test_what_cannot_be_fixed_is_reported_and_leaves_nothing_half_done(
    server, tmp_path, capsys, monkeypatch, behave, content, message
):
    server.behave, server.content = behave, content
    if "says nothing" in behave:
        monkeypatch.setattr(downloading, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(DataError, match=message):
        fetch("cifar10-c", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} <= {"cifar10-c.part"}
    assert main(["data", "fetch", "cifar10-c", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    server.behave, server.content = ["well"], GOOD
    monkeypatch.setattr(downloading, "TIMEOUT_SECONDS", 2.0)
    assert fetch("cifar10-c", tmp_path).is_dir()


def _link(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("CIFAR-10-C/link")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "content",
    [
        packed({"../evil": b"x"}),
        packed({"/evil": b"x"}),
        packed({"CIFAR-10-C/../../evil": b"x"}),
        packed({"other/fog.npy": b"x"}),
        packed({"CIFAR-10-C/a": b"x"}, _link(tarfile.SYMTYPE)),
        packed({"CIFAR-10-C/a": b"x"}, _link(tarfile.LNKTYPE)),
        packed({"CIFAR-10-C/a": b"x"}, _link(tarfile.CHRTYPE)),
        packed({"CIFAR-10-C/fog.npy": b"x"}),
        packed({}),
        b"no tar at all" * 100,
    ],
)
def test_an_archive_that_reaches_outside_is_not_unpacked(server, tmp_path, monkeypatch, content):
    server.content = content
    described = replace(ARCHIVES["cifar10-c"], size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(ARCHIVES, "cifar10-c", described)
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(DataError, match=r"not a plain file|does not contain|cannot be unpacked"):
        fetch("cifar10-c", inside)
    assert [p.name for p in inside.iterdir()] == ["cifar10-c.part"]
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


def test_wrong_requests_are_reported(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for arguments, message in (
        (("cifar11", tmp_path), "unknown archive 'cifar11': did you mean 'cifar10'"),
        (("cifar10-c", tmp_path / "file"), "cannot write in"),
        (("cifar10-c", tmp_path, "file:///etc/passwd"), "not an http"),
        (("cifar10-c", tmp_path, "http://[bad/x"), "not an http"),
        (("cifar10-c", tmp_path, "http://host:port/x"), "not an http"),
        (("cifar10-c", tmp_path, "http:///x"), "not an http"),
        (("cifar10-c", tmp_path, "http://host/a b"), "not an http"),
        (("cifar10-c", tmp_path, "http://127.0.0.1:9/x"), "cannot download http://127.0.0.1:9/x: .*refused"),
    ):
        with pytest.raises(DataError, match=message):
            fetch(*arguments)
    monkeypatch.setitem(ARCHIVES, "cifar10-c", replace(ARCHIVES["cifar10-c"], size=10**18))
    with pytest.raises(DataError, match="GB free"):
        fetch("cifar10-c", tmp_path)


def test_the_space_asked_for_is_what_is_missing(server, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fetching, "_check_space", lambda place, needed: asked.append(needed))
    (tmp_path / "cifar10-c.part").write_bytes(GOOD[:100])
    fetch("cifar10-c", tmp_path)
    assert asked == [len(GOOD) + ARCHIVES["cifar10-c"].unpacked - 100]


def test_what_no_try_mends_is_reported_at_once(server, tmp_path, monkeypatch):
    def refuse(self, request, **_):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(downloading.urllib.request.OpenerDirector, "open", refuse)
    monkeypatch.setattr(downloading.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(DataError, match="its certificate is not trusted"):
        fetch("cifar10-c", tmp_path)


def test_a_full_disk_is_reported_as_one(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "_unpack", full)
    with pytest.raises(DataError, match=r"cannot write in .*: No space left"):
        fetch("cifar10-c", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"), [("about.npz", "also contains about.npz"), (None, "lacks fog.npy")]
)
def test_another_folder_of_that_name_is_not_taken_for_the_published_one(server, tmp_path, name, message):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for file in ("fog.npy", "labels.npy", name) if name else ("labels.npy",):
        (folder / file).touch()
    with pytest.raises(DataError, match=message):
        fetch("cifar10-c", tmp_path)
    assert server.ranges == []
    assert folder.is_dir()


def test_a_kept_archive_is_unpacked_again_and_never_removed(server, tmp_path, capsys):
    arguments = ["data", "fetch", "cifar10-c", "--out", str(tmp_path), "--keep", "--json"]
    folder = tmp_path / "CIFAR-10-C"
    for was_there in (False, True):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert json.loads(out) == {"name": "cifar10-c", "folder": str(folder), "was_there": was_there}
    kept = tmp_path / "CIFAR-10-C.tar"
    assert kept.read_bytes() == GOOD
    folder.rename(tmp_path / "elsewhere")
    fetch("cifar10-c", tmp_path)
    assert folder.is_dir()
    assert len(server.ranges) == 1
    folder.rename(tmp_path / "elsewhere too")
    kept.write_bytes(b"mine")
    with pytest.raises(DataError, match="remove it and run this again"):
        fetch("cifar10-c", tmp_path)
    assert kept.read_bytes() == b"mine"


def test_what_is_there_is_reported_beside_the_result(server, tmp_path, capsys):
    arguments = ["data", "fetch", "cifar10-c", "--out", str(tmp_path)]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(tmp_path / "CIFAR-10-C")
    assert "is already there; nothing was downloaded" in told.err


def test_an_interrupt_leaves_the_part_and_says_so(server, tmp_path, monkeypatch, capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    server.behave = ["breaks off", "well"]
    with monkeypatch.context() as patched:
        patched.setattr(downloading.time, "sleep", interrupt)
        with pytest.raises(SystemExit) as stopped:
            main(["data", "fetch", "cifar10-c", "--out", str(tmp_path)])
    assert stopped.value.code == 130
    assert capsys.readouterr().err.strip() == "tbft: interrupted; run it again to resume"
    half = (tmp_path / "cifar10-c.part").stat().st_size
    fetch("cifar10-c", tmp_path)
    assert server.ranges == [None, f"bytes={half}-"]
