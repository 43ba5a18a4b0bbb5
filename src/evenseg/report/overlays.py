"""Validation pictures of a study: which ones to show, and PNG files as text for the page."""

import base64
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evenseg.report.records import Overlay, Run
from evenseg.report.tables import summarise

MAX_SIDE = 768
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """One PNG as a data URL with its size in pixels as shown."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class Prediction:
    """The prediction of one loss; `picture` is None where its run is missing."""

    loss: str
    picture: Picture | None
    miou: float | None


@dataclass(frozen=True)
class Row:
    """One image with its target and every loss' prediction; `why` says why it is shown."""

    name: str
    why: str
    mean: float | None
    image: Picture
    target: Picture
    predictions: tuple[Prediction, ...]


def choose(runs: Mapping[str, Run | None], count: int = 4) -> list[Row]:
    """Pick the images with the lowest and the highest per-image mIoU, averaged over the losses.

    Args:
        runs: one finished run for each loss, or None.
        count: how many images; half of them worst, half best.

    Returns:
        Rows from the worst to the best; images that not all given runs show are left out.

    Raises:
        ValueError: a file that is no PNG, by name.
    """
    kept = {loss: run.overlays if run is not None else None for loss, run in runs.items()}
    known = [overlays for overlays in kept.values() if overlays is not None]
    if not known:
        return []
    names = [name for name in known[0] if all(name in overlays for overlays in known)]
    scores = {name: summarise(overlays[name].miou for overlays in known) for name in names}
    # images without a score (nothing labelled) come last, and are shown only when there is room
    scored = sorted((s.mean, name) for name, s in scores.items() if s is not None)
    order = [name for _, name in scored]
    if len(order) > count:
        order = order[: (count + 1) // 2] + order[len(order) - count // 2 :]
    order += [name for name in names if scores[name] is None][: count - len(order)]
    why = dict.fromkeys(order, "")
    if len(scored) > 1:
        why[scored[0][1]], why[scored[-1][1]] = "the worst", "the best"
    return show(kept, why)


def show(overlays: Mapping[str, Mapping[str, Overlay] | None], images: Mapping[str, str]) -> list[Row]:
    """Read the pictures of chosen images.

    Args:
        overlays: by loss, the pictures of its run by image; None where the run is missing.
        images: name of an image -> why it is shown; those that not every run keeps are left out.

    Raises:
        ValueError: a file that is no PNG, by name.
    """
    known = [kept for kept in overlays.values() if kept is not None]
    rows = []
    for name, why in images.items():
        if not known or not all(name in kept for kept in known):
            continue
        first, summary = known[0][name], summarise(kept[name].miou for kept in known)
        predictions = []
        for loss, kept in overlays.items():
            overlay = kept[name] if kept is not None else None
            miou = overlay.miou if overlay else None
            picture = read_png(overlay.prediction) if overlay else None
            predictions.append(Prediction(loss, picture, None if miou is None else 100 * miou))
        rows.append(
            Row(
                name=first.name,
                why=why,
                mean=summary.mean if summary else None,
                image=read_png(first.image),
                target=read_png(first.target),
                predictions=tuple(predictions),
            )
        )
    return rows


def read_png(file: Path) -> Picture:
    """Read a PNG file as a data URL, reduced to at most 768 pixels a side.

    Args:
        file: a PNG.

    Returns:
        The picture.

    Raises:
        ValueError: not a PNG.
    """
    data = file.read_bytes()
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR":
        raise ValueError(f"{file}: not a PNG file")
    width, height = struct.unpack(">II", data[16:24])
    if max(width, height) > MAX_SIDE:
        data, width, height = _reduce(data, MAX_SIDE / max(width, height))
    return Picture("data:image/png;base64," + base64.b64encode(data).decode("ascii"), width, height)


def _reduce(data: bytes, scale: float) -> tuple[bytes, int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # class indices must not be mixed
        method = Image.Resampling.NEAREST if image.mode in ("P", "L", "1") else Image.Resampling.LANCZOS
        out = io.BytesIO()
        image.resize(size, method).save(out, "PNG")
    return out.getvalue(), *size
