"""What the check before training saw of each pair, kept on disk so that the next start need not read the files again.

One JSON file per data set section lies in the user's cache folder (`cache_folder`), never beside the data. An entry counts
while both files of its pair have the size and the time of change they had when they were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from evenseg import __version__
from evenseg.data.base import SegmentationDataset
from evenseg.data.diagnosis.records import PairRecord

# path, size in bytes and time of change in ns of the image, then of the mask
_Stamp: TypeAlias = tuple[str, int, int, str, int, int]

_FORMAT = 1
# a file may change twice within one tick of its file system's clock; two seconds is FAT's, the coarsest in use
_RECENT_NS = 2_000_000_000


def cache_folder() -> Path:
    """Returns the user's folder for things that can be made again.

    $EVENSEG_CACHE, else $XDG_CACHE_HOME/evenseg, else ~/.cache/evenseg.
    """
    if own := os.environ.get("EVENSEG_CACHE"):
        return Path(own).expanduser()
    # by the XDG base directory specification, a relative path there is to be ignored
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "evenseg"


class ScanCache:
    """The records of one data set on disk.

    Only pairs without any problem are kept: whatever may be a finding is looked at anew. Several processes may use one
    file at the same time; each replaces it as a whole, and the last one stays.

    Args:
        dataset: whose records are to be kept; one that is not made of files, or whose class is not of this package (the
            way it reads files may change without notice), has none.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        rules = dataset.reading_rules if type(dataset).__module__.startswith("evenseg.") else None
        self.file: Path | None = None
        self._stamps: list[_Stamp | None] = []
        if rules is None:
            return
        # the stamps are taken before anything is read: a file that changes meanwhile does not fit its entry
        self._stamps = [_stamp(dataset, index) for index in range(len(dataset))]
        self._names = [dataset.name(index) for index in range(len(dataset))]
        where = str(Path(dataset.where).resolve())
        parts = (_FORMAT, __version__, type(dataset).__qualname__, where, rules)
        self.file = cache_folder() / "masks" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.json"

    def load(self) -> dict[int, PairRecord]:
        """Returns the records of the pairs whose files have not changed; none where the file is missing or damaged."""
        if self.file is None:
            return {}
        try:
            entries = json.loads(self.file.read_text(encoding="utf-8"))
            stored = {tuple(entry["stamp"]): entry for entry in entries}
            return {
                index: _record(name, stored[stamp])
                for index, (name, stamp) in enumerate(zip(self._names, self._stamps, strict=True))
                if stamp is not None and stamp in stored
            }
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return {}  # missing, or not what `store` wrote: it is written anew

    def store(self, records: Sequence[PairRecord]) -> None:
        """Replaces the file. Where that cannot be done, a warning says so: training does not depend on it."""
        if self.file is None:
            return
        recent = time.time_ns() - _RECENT_NS
        entries = [
            _entry(stamp, record)
            for stamp, record in zip(self._stamps, records, strict=True)
            if stamp is not None and max(stamp[2], stamp[5]) < recent and _is_clean(record)
        ]
        if not entries:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # a name of its own for every writer, so that none renames what another is still writing
            handle, temporary = tempfile.mkstemp(prefix=f".{self.file.stem}.", suffix=".tmp", dir=self.file.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    json.dump(entries, stream, separators=(",", ":"))
                os.replace(temporary, self.file)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            warnings.warn(
                f"what was seen of the masks cannot be kept for the next start ({error}); EVENSEG_CACHE names another folder",
                stacklevel=2,
            )


def _stamp(dataset: SegmentationDataset, index: int) -> _Stamp | None:
    files = dataset.files(index)
    if files is None:
        return None
    parts: list[Any] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            return None  # the scan says what is wrong with it
        parts += [str(file.resolve()), status.st_size, status.st_mtime_ns]
    image, image_size, image_time, mask, mask_size, mask_time = parts
    return image, image_size, image_time, mask, mask_size, mask_time


def _is_clean(record: PairRecord) -> bool:
    return not record.problem and record.borders is None and record.colors is None and record.image_size is not None


def _entry(stamp: _Stamp, record: PairRecord) -> dict[str, Any]:
    return {
        "stamp": stamp,
        "image_size": record.image_size,
        "mask_size": record.mask_size,
        "labels": list(record.labels.items()),
    }


def _record(name: str, entry: dict[str, Any]) -> PairRecord:
    """Returns the record of an entry; one of the errors that `load` takes for damage if it is none."""
    sizes = [tuple(int(length) for length in entry[key]) for key in ("image_size", "mask_size")]
    if any(len(size) != 2 for size in sizes):
        raise ValueError("a size is not (height, width)")
    labels = {int(label): int(pixels) for label, pixels in entry["labels"]}
    return PairRecord(name, image_size=sizes[0], mask_size=sizes[1], labels=labels)  # type: ignore[arg-type]
