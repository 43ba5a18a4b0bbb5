"""Pictures that occur twice: within a split, or, worse, in training and in what measures it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from evenseg.data.diagnosis.findings import Finding
from evenseg.data.diagnosis.fingerprints import near_duplicates
from evenseg.data.diagnosis.records import PairRecord, Scan


def duplicates_within(scan: Scan) -> list[Finding]:
    """Finds images of equal pixels in one split; with different masks they contradict each other."""
    groups: dict[bytes, list[PairRecord]] = {}
    for record in scan.records:
        if record.fingerprint is not None:
            groups.setdefault(record.fingerprint.digest, []).append(record)
    repeated = [group for group in groups.values() if len(group) > 1]
    torn = [group for group in repeated if len({record.mask_digest for record in group}) > 1]
    same = [group for group in repeated if group not in torn]
    found = []
    if torn:
        found.append(
            Finding(
                "contradicting-masks",
                "warning",
                scan.section,
                f"{len(torn)} images occur more than once, with different masks",
                tuple(" = ".join(record.name for record in group) for group in torn),
                "keep the right mask",
            )
        )
    if same:
        found.append(
            Finding(
                "duplicates",
                "info",
                scan.section,
                f"{len(same)} images occur more than once, with the same mask",
                tuple(" = ".join(record.name for record in group) for group in same),
                "they only count double; take the copies out unless that is meant",
            )
        )
    return found


def duplicates_across(scans: Sequence[Scan]) -> list[Finding]:
    """Finds images that two splits share, exactly or nearly."""
    return [finding for one, other in combinations(scans, 2) for finding in _across(one, other)]


def _across(one: Scan, other: Scan) -> list[Finding]:
    if one.dataset.cache_key == other.dataset.cache_key:
        return [
            Finding(
                "same-data",
                "error",
                other.section,
                f"{other.section} reads the same files as {one.section}, so its scores say nothing about new pictures",
                (),
                "name another split",
            )
        ]
    first = [record for record in one.records if record.fingerprint is not None]
    second = [record for record in other.records if record.fingerprint is not None]
    by_digest: dict[bytes, list[PairRecord]] = {}
    for record in first:
        assert record.fingerprint is not None
        by_digest.setdefault(record.fingerprint.digest, []).append(record)
    exact = []
    for record in second:
        assert record.fingerprint is not None
        if same := by_digest.get(record.fingerprint.digest):
            exact.append((same[0], record))
    taken = {record.name for _, record in exact}
    # of the others, those alike: the first partner of each is enough
    left = [r for r in first if r.fingerprint and r.fingerprint.grid is not None]
    right = [r for r in second if r.fingerprint and r.fingerprint.grid is not None and r.name not in taken]
    near: dict[str, tuple[PairRecord, PairRecord]] = {}
    prints = [[r.fingerprint for r in side if r.fingerprint is not None] for side in (left, right)]
    for i, j in near_duplicates(prints[0], prints[1]):
        near.setdefault(right[j].name, (left[i], right[j]))
    found = []
    for code, severity, pairs, how in (
        ("duplicates-across-splits", "error", exact, "have exactly the pixels of"),
        ("near-duplicates-across-splits", "warning", list(near.values()), "look almost exactly like"),
    ):
        if pairs:
            found.append(
                Finding(
                    code,
                    severity,  # type: ignore[arg-type]
                    other.section,
                    f"{len(pairs)} of {len(other.records)} images of {other.section} {how} an image of {one.section}, so "
                    "its scores are too good",
                    tuple(f"{partner.name} = {record.name}" for partner, record in pairs),
                    "keep each picture, and pictures of one scene, in one split",
                )
            )
    return found
