"""One record per loss on maps and way to use it, one file per family. test_map_battery.py runs the same checks over every record."""

from map_cases import active_boundary, auto_seg, pairwise, rmi, semantic_edges, shapes, structural_similarity
from map_cases.record import MapCase, context_of, map_batch

CASES: list[MapCase] = [
    *active_boundary.CASES,
    *auto_seg.CASES,
    *pairwise.CASES,
    *rmi.CASES,
    *semantic_edges.CASES,
    *shapes.CASES,
    *structural_similarity.CASES,
]

# one case per loss, mode and number of channels, for checks that do not depend on the other keywords
BASIC = list({(case.loss, case.mode, case.channels): case for case in reversed(CASES)}.values())[::-1]

__all__ = ["BASIC", "CASES", "MapCase", "context_of", "map_batch"]
