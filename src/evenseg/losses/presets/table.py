"""The table of all presets by library: docs/migrating.md and `evenseg losses --presets` print it."""

from __future__ import annotations

from evenseg.losses.presets import OURS, PRESETS, PROJECTS, Preset

TITLES = {
    "smp": "segmentation-models-pytorch 0.6",
    "monai": "MONAI 1.6",
    "mmseg": "MMSegmentation 1.2",
    "paddleseg": "PaddleSeg (d7975e7c, October 2024)",
    "kornia": "kornia 0.9",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "berman": "Berman's LovaszSoftmax (7d48792d)",
    "hrnet": "HRNet-Semantic-Segmentation (0bbb2880)",
    "ocnet": "OCNet",
    "jdt": "JDTLosses (68ce8ac4)",
    "odyssey": "SegLossOdyssey (d562441a)",
}


def of_project(project: str) -> dict[str, Preset]:
    """The presets of one library by name."""
    return {name: one for name, one in PRESETS.items() if name.partition(".")[0] == project}


def preset_tables() -> str:
    """One Markdown table per library: their call, ours, what we would use instead, and why."""
    parts = []
    for project in PROJECTS:
        rows = [f"### {TITLES[project]}\n", "| theirs | preset | instead | what differs |", "|---|---|---|---|"]
        for name, one in of_project(project).items():
            keywords = ", ".join(k for k in one.keywords if k != "mode" or project == "smp")
            rows.append(f"| `{one.theirs}` | `{name}` ({keywords}) | `{one.instead}` | {one.why} |".replace("` or `", " or "))
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def listing() -> list[tuple[str, str, str]]:
    """(name, their call, keywords) of every preset; OURS go with all."""
    return [(name, one.theirs, ", ".join(one.keywords)) for name, one in PRESETS.items()]


__all__ = ["OURS", "TITLES", "listing", "of_project", "preset_tables"]
