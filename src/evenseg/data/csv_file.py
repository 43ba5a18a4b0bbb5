"""CSV files with one row per image: columns of paths, and where wanted one of splits."""

from __future__ import annotations

import csv
from pathlib import Path

from typing_extensions import Unpack

from evenseg.config import unknown_name
from evenseg.data.list_file import Line, existing_pairs, find_file, read_text
from evenseg.data.pairs import FileDataset, FileOptions, data_root, named_pairs


class CSVDataset(FileDataset):
    """Reads pairs from a CSV file with a header line.

    Args:
        root: the data set's folder, where the paths in the file start.
        file: the CSV file; a relative one is looked for below `root`, then in the working folder.
        split: take only rows whose `split_column` holds this; all rows by default.
        image_column, mask_column, split_column: names in the header.
        delimiter: between fields; quoted fields may hold it.
        options: see `FileDataset`.

    Raises:
        FileNotFoundError: the root or the file is missing.
        ValueError: a column that is missing (with the nearest one), a row without a path (with its line), files that do
            not exist, or no rows.
    """

    def __init__(
        self,
        root: str,
        file: str = "data.csv",
        split: str | None = None,
        image_column: str = "image",
        mask_column: str = "mask",
        split_column: str = "split",
        delimiter: str = ",",
        **options: Unpack[FileOptions],
    ) -> None:
        base = data_root(root)
        self.file = find_file(base, file)
        if len(delimiter) != 1:
            raise ValueError(f"delimiter must be one character, got {delimiter!r}")
        columns = [image_column, mask_column] + ([] if split is None else [split_column])
        lines, splits = _read_rows(self.file, columns, delimiter, split)
        if not lines:
            held = f"; its {split_column} column holds {', '.join(splits) or 'nothing'}" if split is not None else ""
            raise ValueError(f"{self.file} has no rows" + (f" of the split {split!r}{held}" if split is not None else ""))
        files = [(line, base / line.image, base / line.mask) for line in lines]
        pairs = existing_pairs(self.file, files, options.get("on_unpaired", "stop"))
        super().__init__(named_pairs(pairs, base), self.file, root=base, **options)


def _read_rows(file: Path, columns: list[str], delimiter: str, split: str | None) -> tuple[list[Line], list[str]]:
    """Returns the wanted rows, and the names of all splits."""
    reader = csv.DictReader(read_text(file).splitlines(), delimiter=delimiter, strict=True)
    lines, splits = [], set()
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        for column in columns:
            if column not in header:
                raise ValueError(f"{file}: {unknown_name('column', column, header)}")
        for row in reader:
            values = [(row[column] or "").strip() for column in columns]
            if None in row or not all(values):
                raise ValueError(
                    f"{file}, line {reader.line_num}: expected a value in {' and '.join(columns)} and {len(header)} fields, "
                    f"got {[value for value in row.values() if value is not None]}"
                )
            splits.update(values[2:])
            if split is None or values[2] == split:
                lines.append(Line(reader.line_num, values[0], values[1]))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}") from error
    return lines, sorted(splits)
