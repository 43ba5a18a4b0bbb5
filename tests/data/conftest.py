"""Tiny image and mask files under the names of real data sets."""

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

    def text(self, path, content):
        self._new(path).write_text(content, encoding="utf-8")


@pytest.fixture
def tree(tmp_path):
    """Writes tiny files below an empty folder."""
    (tmp_path / "data").mkdir()
    return Tree(tmp_path / "data")
