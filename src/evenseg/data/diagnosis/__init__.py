"""The label doctor: what is wrong with the masks and images of a configuration, and what to write to put it right.

`records` looks at every pair once; the rules in `files`, `labels`, `contents` and `duplicates` judge what was seen. The
check before training (`evenseg.data.check_data`) is the part of these rules that ends in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evenseg.data.diagnosis.contents import absent_classes, only_ignored, single_class
from evenseg.data.diagnosis.duplicates import duplicates_across, duplicates_within
from evenseg.data.diagnosis.files import color_masks, palettes, sizes_differ, unreadable_files
from evenseg.data.diagnosis.findings import SEVERITIES, Finding, some
from evenseg.data.diagnosis.labels import odd_labels, suspicious_labels
from evenseg.data.diagnosis.records import PairRecord, Scan, scan
from evenseg.data.diagnosis.unpaired import missing_files, unpaired_files

# what training cannot go on with, the first things to put right first
STOPPING_RULES: tuple[Callable[[Scan], list[Finding]], ...] = (unreadable_files, color_masks, sizes_differ, odd_labels)
_MORE_RULES: tuple[Callable[[Scan], list[Finding]], ...] = (palettes, suspicious_labels, duplicates_within)
# they judge classes, so they have nothing to say while the labels are not classes
_CONTENT_RULES: tuple[Callable[[Scan], list[Finding]], ...] = (only_ignored, absent_classes, single_class)


def diagnose(scans: Sequence[Scan], known: Sequence[Finding] = ()) -> list[Finding]:
    """Returns all findings of several data sets beside those known already, the errors first."""
    found = list(known)
    for one in scans:
        rules = STOPPING_RULES + _MORE_RULES
        if not odd_labels(one) and not color_masks(one):
            rules += _CONTENT_RULES
        found += [finding for rule in rules for finding in rule(one)]
    found += duplicates_across(scans)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


__all__ = ["STOPPING_RULES", "Finding", "PairRecord", "Scan", "diagnose", "missing_files", "scan", "some", "unpaired_files"]
