"""Tiny image and mask files under the names of real data sets."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Tree:
    """Writes files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def _new(self, path):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def image(self, *paths, size=(2, 3), value=90):
        for path in paths:
            Image.fromarray(np.full((*size, 3), value, np.uint8)).save(self._new(path))

    def mask(self, path, labels, palette=False, dtype=np.uint8):
        picture = Image.fromarray(np.asarray(labels, dtype))
        if palette:
            # one that would change every value if it were applied
            picture.putpalette(list(range(255, -1, -1)) * 3)
        picture.save(self._new(path))

    def wide_png(self, path, pixels):
        """Writes a PNG of 16 bits and several channels, which Pillow cannot; its rows use all five filters."""
        pixels = np.asarray(pixels).astype(">u2")
        height, width, channels = pixels.shape
        step = 2 * channels
        rows = np.frombuffer(pixels.tobytes(), np.uint8).reshape(height, width * step).astype(int)
        body = bytearray()
        for y in range(height):
            up = rows[y - 1] if y else np.zeros(width * step, int)
            left = np.concatenate([np.zeros(step, int), rows[y, :-step]])
            corner = np.concatenate([np.zeros(step, int), up[:-step]])
            guess = left + up - corner
            distances = np.stack([abs(guess - left), abs(guess - up), abs(guess - corner)])
            paeth = np.choose(distances.argmin(0), [left, up, corner])
            kind = y % 5
            row = rows[y] - [np.zeros_like(up), left, up, (left + up) // 2, paeth][kind]
            body += bytes([kind]) + (row % 256).astype(np.uint8).tobytes()
        header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
        with self._new(path).open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(body))), (b"IEND", b"")):
                file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))

    def wide_tiff(self, path, pixels, compression=1, order="<", alpha=False):
        """Writes a TIFF of 16 bits and several channels; compression 1 is none, 8 is deflate."""
        pixels = np.asarray(pixels).astype(f"{order}u2")
        height, width, channels = pixels.shape
        data = pixels.tobytes() if compression == 1 else zlib.compress(pixels.tobytes())
        tags = {256: width, 257: height, 259: compression, 262: 2 if channels > 1 else 1}
        tags |= {273: 8, 277: channels, 278: height, 279: len(data)}
        extra = {258: (16,) * channels} | ({338: (2 if alpha else 0,) * (channels - 3)} if channels > 3 else {})
        entries, tail = [], b""
        directory = 8 + len(data) + len(data) % 2
        after = directory + 2 + 12 * (len(tags) + len(extra)) + 4
        for tag in sorted({**tags, **extra}):
            if tag in tags:
                entries.append(struct.pack(f"{order}HHII", tag, 4, 1, tags[tag]))
            elif len(extra[tag]) == 1:
                entries.append(struct.pack(f"{order}HHIHH", tag, 3, 1, extra[tag][0], 0))
            else:
                entries.append(struct.pack(f"{order}HHII", tag, 3, len(extra[tag]), after + len(tail)))
                tail += struct.pack(f"{order}{len(extra[tag])}H", *extra[tag])
        start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, directory)
        content = start + data + b"\0" * (len(data) % 2) + struct.pack(f"{order}H", len(entries)) + b"".join(entries)
        self._new(path).write_bytes(content + struct.pack(f"{order}I", 0) + tail)

    def text(self, path, content):
        self._new(path).write_text(content, encoding="utf-8")


@pytest.fixture
def tree(tmp_path):
    """Writes tiny files below an empty folder."""
    (tmp_path / "data").mkdir()
    return Tree(tmp_path / "data")
