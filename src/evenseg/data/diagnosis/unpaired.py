"""Files without a partner, and the suffix that would pair them; files that a list names and that do not exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import takewhile

from evenseg.data.diagnosis.findings import Finding
from evenseg.data.list_file import MissingFilesError
from evenseg.data.pairs import UnpairedFilesError

_PROBED = 20


def unpaired_files(section: str, error: UnpairedFilesError) -> Finding:
    """Returns the finding for images without masks or masks without images."""
    parts = []
    if error.images:
        parts.append(f"{len(error.images)} images have no mask")
    if error.masks:
        parts.append(f"{len(error.masks)} masks have no image")
    files = tuple(file.name for file in [*error.images.values(), *error.masks.values()])
    suffixes = guess_suffixes(error.images, error.masks)
    if suffixes is None:
        line, remedy = "on_unpaired: skip", "goes on without these files; or add what is missing, or correct the names"
    else:
        keys = [
            f"{key}: {suffix}" for key, suffix in zip(("image_suffix", "mask_suffix"), suffixes, strict=True) if suffix
        ]
        # two keys are two lines of the section
        line, remedy = "\n".join(keys), "pairs the files by what is left of their names"
    return Finding("unpaired", "error", section, " and ".join(parts), files, remedy, line)


def missing_files(section: str, error: MissingFilesError) -> Finding:
    """Returns the finding for files that a list or a CSV file names and that do not exist."""
    message = f"{len(error.files)} of the {error.total} files that the list names do not exist"
    remedy = "goes on without these pairs; or fetch the files, or correct the root or the paths in the list"
    line = "on_unpaired: skip" if len(error.files) < error.total else None
    if line is None:
        remedy = "correct the root, or the paths in the list: not one of them leads to a file"
    return Finding("missing-files", "error", section, message, error.files, remedy, line)


def guess_suffixes(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """Returns the ends of the names of images and masks without which most of them pair, or None."""
    votes: Counter[tuple[str, str]] = Counter()
    for image in sorted(images)[:_PROBED]:
        for mask in masks:
            common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(image, mask, strict=False)))
            # a suffix begins with a mark such as "_": 0001 and 0002 are two names, not one with two ends
            if common and image[common:] and mask[common:] and not image[common - 1].isalnum():
                common -= 1
            ends = image[common:], mask[common:]
            if common and not any(end[:1].isalnum() for end in ends):
                votes[ends] += 1
    for (image_end, mask_end), _ in votes.most_common(5):
        stems = {mask[: len(mask) - len(mask_end)] for mask in masks if mask.endswith(mask_end)}
        paired = sum(image[: len(image) - len(image_end)] in stems for image in images if image.endswith(image_end))
        if paired and paired >= 0.8 * max(len(images), 1):
            return image_end, mask_end
    return None
