"""Files that cannot be used as they are: unreadable, of another size, in colours, with palettes that disagree."""

from __future__ import annotations

from collections import Counter

from evenseg.data.base import Classes
from evenseg.data.diagnosis.findings import Finding, flow, some
from evenseg.data.diagnosis.records import PairRecord, Scan


def unreadable_files(scan: Scan) -> list[Finding]:
    """Finds images and masks that are missing or damaged, or of a kind that the section does not take."""
    found = []
    images = [record for record in scan.records if record.image_problem]
    masks = [record for record in scan.records if record.mask_problem and record.colors is None]
    for kind, records in (("image", images), ("mask", masks)):
        if not records:
            continue
        damaged = all(record.unreadable for record in records)
        found.append(
            Finding(
                f"unreadable-{kind}",
                "warning" if damaged and scan.skip_unreadable else "error",
                scan.section,
                f"{len(records)} of {len(scan.records)} {kind}s cannot be used",
                tuple(f"{record.name} ({getattr(record, f'{kind}_problem')})" for record in records),
                "goes on without them; or fetch or export these files again"
                if damaged
                else "export these files again, or take them out",
                "on_unreadable: skip" if damaged and not scan.skip_unreadable else None,
                top_level=True,
            )
        )
    return found


def sizes_differ(scan: Scan) -> list[Finding]:
    """Finds masks of another size than their image."""
    odd = [r for r in scan.records if r.image_size is not None and r.mask_size is not None and r.image_size != r.mask_size]
    if not odd:
        return []
    turned = sum(record.image_size == (record.mask_size or ())[::-1] for record in odd)
    remedy = "export masks and images at one size; masks must be resized with nearest neighbour"
    if turned:
        remedy = (
            f"{turned} are turned by 90 degrees: photographs that carry an EXIF rotation must be rotated in the file; "
            f"else {remedy}"
        )
    return [
        Finding(
            "size-mismatch",
            "error",
            scan.section,
            f"{len(odd)} of {len(scan.records)} masks differ in size from their image",
            tuple(f"{record.name} (mask {_size(record.mask_size)}, image {_size(record.image_size)})" for record in odd),
            remedy,
        )
    ]


def color_masks(scan: Scan) -> list[Finding]:
    """Finds masks that store colours, and says which keyword reads them."""
    hit = [record for record in scan.records if record.colors is not None]
    if not hit:
        return []
    colors: Counter[int] = Counter()
    for record in hit:
        colors.update(record.colors or {})
    line, remedy = _how_to_read(colors, scan)
    listed = some([f"[{_rgb(color)}]" for color, _ in colors.most_common()], 6)
    return [
        Finding(
            "color-masks",
            "error",
            scan.section,
            f"{len(hit)} of {len(scan.records)} masks store colours, not one class index per pixel, and the section does "
            f"not say what they mean ({len(colors)} colours: {listed})",
            tuple(record.name for record in hit),
            remedy,
            line,
        )
    ]


def _how_to_read(colors: Counter[int], scan: Scan) -> tuple[str | None, str]:
    classes = scan.classes
    grey = all(color >> 16 == color >> 8 & 255 == color & 255 for color in colors)
    levels = {color & 255 for color in colors}
    if grey and classes.num_classes == 2 and levels <= {0, 255}:
        return "threshold: 128", f"white becomes {classes.names[1]!r}"
    if grey and levels <= {*range(classes.num_classes), classes.ignore_index}:
        return "mask_channel: 0", "the three channels hold the same class indices, so one of them is read"
    if grey and classes.num_classes == 2:
        return "threshold: 128", f"grey values from 128 on become {classes.names[1]!r}"
    known = {_packed(color): i for i, color in enumerate(classes.colors)}
    unknown = [color for color in colors if color not in known]
    if not unknown and len(known) == classes.num_classes:
        return "palette: classes", "they are the colours of the classes"
    matched = len(colors) - len(unknown)
    if len(known) == classes.num_classes and matched >= 2 and len(unknown) <= 16:
        palette: dict[str, int | str] = {_text(color): i for color, i in known.items()}
        palette |= {_text(color): "ignore" for color in unknown}
        return f"palette: {flow(palette)}", "colours of no class are left out; map them to classes if they mean one"
    if len(colors) <= 32:
        palette = {_text(color): min(i, classes.num_classes - 1) for i, (color, _) in enumerate(colors.most_common())}
        return f"palette: {flow(palette)}", "the colours by their number of pixels: give each the class that it means"
    return None, (
        f"{len(colors)} colours are too many for classes: masks saved as JPEG or resized with interpolation, or photographs "
        "in the folder of the masks; export the masks again as PNG of class indices"
    )


def palettes(scan: Scan) -> list[Finding]:
    """Finds indexed masks whose palettes disagree among each other or with the classes' order."""
    with_palette = [record for record in scan.records if record.palette]
    colors: dict[int, dict[int, PairRecord]] = {}
    for record in with_palette:
        for label, color in (record.palette or {}).items():
            colors.setdefault(label, {}).setdefault(color, record)
    by_colors = _palette_line({color for found in colors.values() for color in found}, scan.classes)
    torn = {label: found for label, found in colors.items() if len(found) > 1}
    if torn:
        label, examples = next(iter(sorted(torn.items())))
        said = some([f"[{_rgb(color)}] in {record.name}" for color, record in examples.items()], 3)
        return [
            Finding(
                "palettes-differ",
                "error",
                scan.section,
                f"the palettes of the {len(with_palette)} masks with one disagree on the labels {some(list(map(str, torn)))}: "
                f"{label} is {said}; each file numbers its colours on its own, so an index is not a class",
                tuple(record.name for record in with_palette),
                "reads the colours instead of the indices" + ("" if by_colors else "; list them, as in docs/label_doctor.md"),
                by_colors,
            )
        ]
    order = {label: next(iter(found)) for label, found in colors.items()}
    wanted = {_packed(color): i for i, color in enumerate(scan.classes.colors)}
    swapped = {label: wanted[color] for label, color in order.items() if wanted.get(color, label) != label}
    swapped = {label: i for label, i in swapped.items() if scan.meaning[label] == label}
    if by_colors and swapped and len(order) > 1:
        names = scan.classes.names
        return [
            Finding(
                "palette-order",
                "warning",
                scan.section,
                "the palette of the masks shows "
                + some([f"label {label} in the colour of {names[i]!r}, which is class {i}" for label, i in swapped.items()], 3),
                tuple(record.name for record in with_palette),
                "reads the colours instead of the indices, if the colours are right",
                by_colors,
            )
        ]
    return []


def _palette_line(colors: set[int], classes: Classes) -> str | None:
    known = {_packed(color) for color in classes.colors}
    return "palette: classes" if len(known) == classes.num_classes and colors <= known else None


def _packed(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _rgb(color: int) -> str:
    return f"{color >> 16}, {color >> 8 & 255}, {color & 255}"


def _text(color: int) -> str:
    return _rgb(color).replace(" ", "")


def _size(size: tuple[int, int] | None) -> str:
    return "unknown" if size is None else f"{size[1]}x{size[0]}"
