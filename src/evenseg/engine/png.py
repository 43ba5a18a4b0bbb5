"""Writing PNG files row band by row band, so that an image need never be in memory as a whole. Pillow cannot do that."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNG specification, table 11.1: colour types
_GREY, _RGB, _PALETTE = 0, 2, 3


class PngWriter:
    """Writes one PNG from top to bottom; the file appears under its name when it is complete.

    Args:
        file: to write.
        height: in pixels.
        width: in pixels.
        dtype: of the samples, uint8 or uint16.
        palette: colours (up to 256, 3) uint8 of an index image.
        rgb: three samples per pixel rather than one.

    Use as a context manager; leaving it early, by an error, removes what was written.
    """

    def __init__(
        self,
        file: Path,
        height: int,
        width: int,
        *,
        dtype: type = np.uint8,
        palette: NDArray[np.uint8] | None = None,
        rgb: bool = False,
    ) -> None:
        self.file, self.height, self.width, self.rgb = file, height, width, rgb
        self.dtype = np.dtype(dtype).newbyteorder(">")
        self.rows = 0
        self._partial = file.with_name(file.name + ".part")
        # labels repeat over long runs and compress well as they are; colours compress better as differences
        self._last: NDArray[np.uint8] | None = np.zeros((width * 3,), np.uint8) if rgb else None
        self._deflate = zlib.compressobj(3 if rgb else 6)
        self._stream = self._partial.open("wb")
        color_type = _RGB if rgb else _PALETTE if palette is not None else _GREY
        self._stream.write(_SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * self.dtype.itemsize, color_type, 0, 0, 0))
        if palette is not None:
            self._chunk(b"PLTE", palette.astype(np.uint8).tobytes())

    def write(self, rows: NDArray[np.generic]) -> None:
        """Appends rows, (n, width) or (n, width, 3)."""
        if self.rows + len(rows) > self.height:
            raise ValueError(f"{self.file}: {self.rows + len(rows)} rows for an image of {self.height}")
        for row in rows.astype(self.dtype, copy=False):
            line = np.ascontiguousarray(row).reshape(-1).view(np.uint8)
            if self._last is None:
                data = self._deflate.compress(b"\0" + line.tobytes())
            else:
                # filter 2, "up": the difference to the row above, modulo 256
                data = self._deflate.compress(b"\2" + (line - self._last).tobytes())
                self._last = line
            if data:
                self._chunk(b"IDAT", data)
        self.rows += len(rows)

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

    def __enter__(self) -> PngWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # closing writes what is buffered, which a full disk refuses
            with self._stream:
                if kind is not None:
                    return
                if self.rows != self.height:
                    raise ValueError(f"{self.file}: {self.rows} of {self.height} rows were written")
                self._chunk(b"IDAT", self._deflate.flush())
                self._chunk(b"IEND", b"")
            os.replace(self._partial, self.file)
        finally:
            self._partial.unlink(missing_ok=True)
