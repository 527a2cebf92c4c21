"""Disks that fail and disks that are full: the hub answers 500 or 507, and what it acknowledged stands."""
import contextlib
import errno
import gzip
import hashlib
import os
import random
import signal
import struct
import subprocess
import threading
import zlib

import pytest

from conftest import ROOT
from test_hub import Hub, sha256
from test_hub_kills import GONE, Work

SYNC, WRITE, NAME = 1, 2, 4


class Answers(Hub):
    """A hub whose answers are counted."""

    def ask(self, *args, **kw):
        r = super().ask(*args, **kw)
        self.answers.append((r.status, r.body[:300]))
        return r


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """Sets what fails: kinds, one in so many, errno."""
    folder = tmp_path_factory.mktemp("faults")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", folder / "faults.so", ROOT / "tests" / "tools" / "faults.c", "-ldl"], check=True)
    control = folder / "control"
    control.write_bytes(bytes(16))

    def fail(kinds=0, one_in=1, error=0):
        with open(control, "r+b") as f:
            f.write(struct.pack("<IIi", kinds, one_in, error))

    fail.env = {"LD_PRELOAD": str(folder / "faults.so"), "FS_FAULTS": str(control)}
    return fail


@pytest.mark.parametrize("kinds,one_in,error,status", [(SYNC, 4, errno.EIO, 500), (WRITE, 7, errno.EIO, 500), (NAME, 3, errno.EIO, 500), (WRITE | NAME, 8, errno.ENOSPC, 507), (SYNC, 4, errno.ENOSPC, 507)])
def test_a_failing_disk_loses_nothing(faults, tmp_path, monkeypatch, kinds, one_in, error, status):
    for k, v in faults.env.items():
        monkeypatch.setenv(k, v)
    faults()
    Answers.answers = []
    hub = Answers(tmp_path / "data", "--multipart", "1MB")
    for k in faults.env:
        monkeypatch.delenv(k)
    work = Work(hub, tmp_path, random.Random(one_in))
    hub.answers.clear()
    faults(kinds, one_in, error)
    for i in range(8):
        for what, repo in ((work.small, "admin/a"), (work.large, "admin/a"), (work.xet, "admin/b"), (work.merge, "admin/b"), (work.fork, "admin/a"),
                           (work.torrent, "admin/t"), (work.parts, "admin/a") if i % 8 == 0 else (work.small, "admin/b")):
            try:
                what(repo)
            except GONE:  # an answer that is none, of which the next step wanted something
                pass
    faults()
    seen = {s for s, _ in hub.answers}
    assert status in seen and seen <= {200, status, 400, 404}, [a for a in hub.answers if a[0] not in (200, status)][:5]  # 400: of an upload that failed before
    assert work.counts
    work.check()
    hub.stop(signal.SIGKILL)
    hub.start()
    work.check()
    for what, repo in ((work.small, "admin/a"), (work.large, "admin/b"), (work.xet, "admin/a"), (work.merge, "admin/a"), (work.push, "admin/b"), (work.fork, "admin/b"),
                       (work.torrent, "admin/t")):
        before = sum(work.counts.values())
        what(repo)
        assert sum(work.counts.values()) > before, what
    work.check()
    assert hub.run("fsck")
    hub.stop()


@contextlib.contextmanager
def small_disk(tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)])


def test_a_full_disk_loses_nothing(tmp_path):
    with small_disk(tmp_path, "24m") as disk:
        Answers.answers = []
        hub = Answers(disk / "data", "--multipart", "1MB")
        work = Work(hub, tmp_path, random.Random(1))
        data = os.urandom(40_000_000)  # more than there is: refused before it is sent
        (o,) = hub.batch("admin/a", [{"oid": sha256(data), "size": len(data)}], transfers=("basic",)).json()["objects"]
        assert hub.ask("PUT", o["actions"]["upload"]["href"], data[:10], token=None).status in (400, 507)
        hub.answers.clear()
        for i in range(400):
            for what, repo in ((work.large, "admin/a"), (work.small, "admin/b"), (work.parts, "admin/b"), (work.xet, "admin/a")):
                try:
                    what(repo)
                except GONE:
                    pass
            if sum(s == 507 for s, _ in hub.answers) > 20:
                break
        seen = {s for s, _ in hub.answers}
        assert 507 in seen and seen <= {200, 400, 404, 507}, [a for a in hub.answers if a[0] not in (200, 507)][:5]
        work.check()
        assert hub.ask("GET", "/api/models").status == 200
        before = sum(work.counts.values())
        # the garbage of what failed goes, and with it space comes back
        hub.stop(signal.SIGKILL)
        hub.start()
        assert hub.ask("DELETE", "/api/repos/delete", {"name": "b"}).status == 200
        hub.run("gc", "--age", "0")
        del work.stands["admin/b"]
        work.small("admin/a")
        work.large("admin/a")
        assert sum(work.counts.values()) > before + 1
        work.check()
        assert hub.run("fsck")
        hub.stop()


def test_a_push_that_grows_when_it_is_unpacked(tmp_path):
    """Content-Encoding makes 300 MiB of zeros, in a pack that stores them as they are, a third of a MiB: git takes no more of them than the disk has room for."""
    with small_disk(tmp_path, "64m") as disk:
        hub = Hub(disk / "data")
        eve, repo = hub.run("user", "add", "eve").strip(), hub.repo("open")
        head = bytearray([0x30 | (300 << 20) & 15])
        for shift in range(4, 32, 7):
            head[-1] |= 0x80
            head.append(300 << 20 >> shift & 127)
        pack = b"PACK" + (2).to_bytes(4, "big") + (121).to_bytes(4, "big") + bytes(head) + zlib.compress(bytes(300 << 20), 0)
        pack += b"".join(b"\x37" + zlib.compress(b"%07d" % i) for i in range(120))  # as many objects stay a pack
        line = f"{'0' * 40} {'1' * 40} refs/pr/1\0 report-status".encode()
        body = gzip.compress(f"{len(line) + 4:04x}".encode() + line + b"0000" + pack + hashlib.sha1(pack).digest(), 6)
        least = [64 << 20]
        done = threading.Event()

        def watch():
            while not done.wait(0.002):
                at = os.statvfs(disk)
                least[0] = min(least[0], at.f_bavail * at.f_frsize)

        thread = threading.Thread(target=watch)
        thread.start()
        r = hub.ask("POST", f"/{repo}.git/git-receive-pack", body, eve, {"Content-Type": "application/x-git-receive-pack-request", "Content-Encoding": "gzip"})
        done.set()
        thread.join()
        assert b"unpack ok" not in r.body and len(body) < 1 << 20
        assert least[0] > 2 << 20, "the rest, a sixteenth of the disk, is not for pushes"
        hub.stop()
