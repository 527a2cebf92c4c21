#!/usr/bin/env python3
"""Writes tests/vectors/torrents/*.torrent with libtorrent (pip install libtorrent==2.1.1): what tests/unit/test_torrent_file.c writes of the same files must be the same
bytes. Content: byte j of file i is (7 j + 13 i + j / 251) mod 256."""
import pathlib
import tempfile
import warnings

import libtorrent as lt

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).parent / "torrents"
NAME = "0123456789abcdef0123456789abcdef01234567"
# None beside a folder that begins like it: libtorrent sorts "a-" before "a/x" in one list and behind it in the other, and then refuses what it wrote.
FILES = [("aa", 5), ("a/x", 16384), ("a/y/z", 16385), ("ab", 0), ("b", 300000), ("c/same", 300000), ("empty", 0), ("z \u00e9%", 65536)]


def content(i, n):
    return bytes((7 * j + 13 * i + j // 251) & 255 for j in range(n))


OUT.mkdir(exist_ok=True)
for piece in (16384, 65536, 1048576):
    with tempfile.TemporaryDirectory() as folder:
        for i, (path, n) in enumerate(FILES):
            p = pathlib.Path(folder, NAME, path)
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_bytes(content(4 if path == "c/same" else i, n))
        fs = lt.file_storage()
        lt.add_files(fs, str(pathlib.Path(folder, NAME)))
        t = lt.create_torrent(fs, piece, 128)  # canonical_files
        lt.set_piece_hashes(t, folder)
        t.add_url_seed("http://127.0.0.1/a/b/resolve/")
        e = t.generate()
        del e[b"creation date"]
        (OUT / f"{piece}.torrent").write_bytes(lt.bencode({k: ([v] if k == b"url-list" and isinstance(v, bytes) else v) for k, v in e.items()}))
