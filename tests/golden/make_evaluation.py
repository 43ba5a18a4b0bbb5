"""Writes tests/golden/evaluation.json from the full golden files: small masks as rows of digits, and the values of others."""

import json
import sys
from pathlib import Path

import numpy as np

MASKS = ("disk_shift2", "touch_border", "empty_pred", "both_empty", "one_pixel", "disk_shift2_void")
MASK_ENTRIES = (
    "davis_boundary_F_th1",
    "davis_boundary_F_th2",
    "davis_boundary_F_th0.02",
    "boundary_iou_ratio0.005",
    "boundary_iou_ratio0.05",
)


def as_text(indices_HW: np.ndarray) -> list[str]:
    return ["".join(str(int(v)) for v in row) for row in indices_HW]


def plain(values: dict) -> dict:
    # a missing number (NaN) is written as null: JSON has no NaN
    return {k: np.where(np.isnan(v), None, np.asarray(v).astype(object)).tolist() for k, v in values.items()}


def main(folder: str, target: str) -> None:
    sys.path.insert(0, folder)
    import golden

    cases: dict = {}
    for entry in MASK_ENTRIES:
        for g in golden.load("metrics_boundary", entry=entry, cases=MASKS):
            masks = {name: as_text(mask) for name, mask in g.inputs.items()}
            case = cases.setdefault(g.case, {"masks": masks, "values": {}})
            case["values"][entry] = plain({k: v for k, v in g.out.items() if np.ndim(v) == 0})
    Path(target).write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
