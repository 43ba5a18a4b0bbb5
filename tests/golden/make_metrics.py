"""Writes tests/golden/metrics.json from the full golden files: three cases, as rows of class digits (. ignored)."""

import json
import sys
from pathlib import Path

import numpy as np

CASES = ("rand", "absent", "img_ignored")
ENTRIES = {
    "sklearn_confusion_matrix": "metrics_confusion",
    "berman_iou_EMPTY_nan_per_imageFalse": "metrics_iou",
    "deeplab_xception_evaluator": "metrics_iou",
    "mmseg_iou_metric": "metrics_iou",
    "torchmetrics_jaccard_macro": "metrics_iou",
}


def as_text(indices_HW: np.ndarray) -> list[str]:
    return ["".join("." if v == 255 else str(int(v)) for v in row) for row in indices_HW]


def main(folder: str, target: str) -> None:
    sys.path.insert(0, folder)
    import golden

    cases: dict = {}
    for entry, family in ENTRIES.items():
        for g in golden.load(family, entry=entry, cases=CASES):
            case = cases.setdefault(
                g.case,
                {
                    "target": [as_text(image) for image in g.inputs["labels"]],
                    "pred": [as_text(image) for image in g.inputs["logits"].argmax(1)],
                    "values": {},
                },
            )
            # a missing number (NaN) is written as null: JSON has no NaN
            values = {k: np.where(np.isnan(v), None, v.astype(object)).tolist() for k, v in g.out.items()}
            case["values"][entry] = values
    Path(target).write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
