"""Downloads: from a server on the loopback address that may break off, lie, or serve something else."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tbft.cli import main
from tbft.data import fetching, read
from tbft.data.fetching import ARCHIVES, fetch
from tbft.errors import DataError


def packed(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
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
        if how == "redirects":
            handler.send_response(302)
            handler.send_header("Location", self.url)
            handler.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and how != "ignores ranges" else 0
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            first = 0 if how == "another range" else start
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
        ARCHIVES["cifar10-c"], url=made.url, size=len(GOOD), sha256=hashlib.sha256(GOOD).hexdigest()
    )
    monkeypatch.setitem(ARCHIVES, "cifar10-c", described)
    monkeypatch.setattr(fetching, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.3)
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
        (["too long", "well"], 1),  # the right bytes came, whatever was announced
        (["too short", "well"], 2),
        (["redirects", "well"], 2),
    ],
)
def test_what_a_second_try_mends(server, tmp_path, behave, requests):
    server.behave = behave
    assert (fetch("cifar10-c", tmp_path) / "fog.npy").exists()
    assert len(server.ranges) == requests


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


@pytest.mark.parametrize("how", ["ignores ranges", "another range"])
def test_a_server_that_cannot_resume_starts_anew(server, tmp_path, how):
    (tmp_path / "cifar10-c.part").write_bytes(GOOD[:100])
    server.behave = [how, "well"]
    if how == "another range":  # the bytes do not go where they seem to: the checksum finds it
        with pytest.raises(DataError, match="another file than the published one"):
            fetch("cifar10-c", tmp_path)
        assert not (tmp_path / "cifar10-c.part").exists()
    fetch("cifar10-c", tmp_path)
    np.testing.assert_array_equal(read(tmp_path / "CIFAR-10-C").inputs, PICTURES)


@pytest.mark.parametrize(
    ("behave", "content", "message"),
    [
        (["503"], GOOD, "503.*run it again to go on"),
        (["says nothing"], GOOD, "cannot download .*timed out"),
        (["404"], GOOD, "the server answers 404"),
        (["well"], GOOD[:-1] + b"x", "it has the SHA-256 .*expected"),
        (["well"], GOOD + b"more", "it has .* bytes, expected"),
        (["well"], GOOD[:-600], "the connection ended after|cannot download"),
    ],
)
def test_what_cannot_be_mended_is_told_and_leaves_nothing_half_done(
    server, tmp_path, capsys, behave, content, message
):
    server.behave, server.content = behave, content
    with pytest.raises(DataError, match=message):
        fetch("cifar10-c", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} <= {"cifar10-c.part"}
    assert main(["data", "fetch", "cifar10-c", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    server.behave, server.content = ["well"], GOOD
    assert fetch("cifar10-c", tmp_path).is_dir()


def _link() -> tarfile.TarInfo:
    member = tarfile.TarInfo("CIFAR-10-C/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "content",
    [
        packed({"../evil": b"x"}),
        packed({"/tmp/evil": b"x"}),
        packed({"CIFAR-10-C/../../evil": b"x"}),
        packed({"other/fog.npy": b"x"}),
        packed({"CIFAR-10-C/a": b"x"}, _link()),
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
    with pytest.raises(DataError, match=r"no plain file|no folder|cannot be unpacked"):
        fetch("cifar10-c", inside)
    assert [p.name for p in inside.iterdir()] == ["cifar10-c.part"]
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


def test_wrong_requests_are_told(server, tmp_path, monkeypatch):
    for arguments, message in (
        (("cifar11", tmp_path), "unknown archive 'cifar11': did you mean 'cifar10'"),
        (("cifar10-c", tmp_path / "nowhere"), "does not exist; make it first"),
        (("cifar10-c", tmp_path, "file:///etc/passwd"), "no http"),
        (("cifar10-c", tmp_path, "http://127.0.0.1:9/x"), "cannot download http://127.0.0.1:9/x: .*refused"),
    ):
        with pytest.raises(DataError, match=message):
            fetch(*arguments)
    monkeypatch.setitem(ARCHIVES, "cifar10-c", replace(ARCHIVES["cifar10-c"], size=10**18))
    with pytest.raises(DataError, match="GB free"):
        fetch("cifar10-c", tmp_path)
