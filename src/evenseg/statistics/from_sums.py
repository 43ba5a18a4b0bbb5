"""From the raw sums of the kernels to the members of SegmentStatistics, in differentiable torch operations."""

from __future__ import annotations

import torch
from torch import Tensor

from evenseg.statistics import slots
from evenseg.statistics.ranking import RankedErrors
from evenseg.statistics.types import Members, SegmentStatistics


def wanted(members: Members) -> int:
    """The members as bits, for the kernels."""
    bits = {
        "prob": slots.WANT_PROB, "prob_sq": slots.WANT_PROB_SQ, "overlap": slots.WANT_OVERLAP,
        "product": slots.WANT_OVERLAP, "nll": slots.WANT_NLL, "nll_all": slots.WANT_NLL_ALL,
        "hits": slots.WANT_HITS, "errors": slots.WANT_ERRORS, "pixel_nll": slots.WANT_PIXEL,
        "ranks": slots.WANT_RANKS, "absent": slots.WANT_ABSENT,
    }  # fmt: skip
    if members.nll_all:  # two channels: the other class's -log p is the own one's plus the margin
        bits["nll_all"] |= slots.WANT_NLL
    want = 0
    for name, bit in bits.items():
        want |= bit if getattr(members, name) else 0
    return want


def _ranked(raw: list[Tensor], pair: bool | None) -> RankedErrors | None:
    """The list of ranked errors, without its unused end; in a two-class softmax it serves both classes."""
    error, place, above, _ = raw
    if error.numel() == 0:
        return None
    if not torch.compiler.is_compiling() and error.device.type == "cpu":  # elsewhere a look at the number would wait for the device
        used = int((place[:, 0] >= 0).sum())
        error, place, above = error[:used], place[:used], above[:used]
    if pair:
        mirrored = torch.stack([place[:, 0], place[:, 1], torch.where(place[:, 0] < 0, 0, 1 - place[:, 2]), place[:, 3]], 1)
        place = torch.stack([place[:, 0], place[:, 1] + 1, place[:, 2], place[:, 3]], 1)
        error, place, above = torch.cat([error, error]), torch.cat([place, mirrored]), torch.cat([above, above.flip(1)])
    return RankedErrors(error, place.detach(), above.detach())


def softmax_members(raw, members: Members, per_image: bool, weighted: bool) -> SegmentStatistics:
    """The statistics of a softmax over several channels, from what `softmax_sums` returns."""
    sums_NSC, counts_N3C, errors, error_counts, peak, _, pixel, _, _, *ranked = raw
    error_counts = error_counts.detach()  # counts carry no gradient
    if not per_image:
        sums_NSC, counts_N3C = sums_NSC.sum(0, keepdim=True), counts_N3C.sum(0, keepdim=True)
    S = sums_NSC.shape[1]
    names = ("labels", "predicted", "hits")
    if weighted:
        at = {"labels": S - 1, "hits": S - 2, "predicted": S - 3}
        count = {k: sums_NSC[:, at[k]].detach() for k in names}
    else:
        count = {k: counts_N3C[:, i] for i, k in enumerate(names)}
    pixels = counts_N3C[:, slots.LABELS].sum(1, keepdim=True).expand_as(count["labels"])
    exponents = members.focal + members.power
    extra = {e: sums_NSC[:, slots.FIXED_SLOTS + i] for i, e in enumerate(exponents[: len(members.focal)])}
    power = {q: sums_NSC[:, slots.FIXED_SLOTS + len(members.focal) + i] for i, q in enumerate(members.power)}
    overlap = sums_NSC[:, slots.OVERLAP]
    return SegmentStatistics(
        pixels=pixels,
        valid=count["labels"].sum(1, keepdim=True).expand_as(count["labels"]),
        labels=count["labels"],
        labels_sq=count["labels"],
        prob=sums_NSC[:, slots.PROB] if members.prob else None,
        prob_sq=sums_NSC[:, slots.PROB_SQ] if members.prob_sq else None,
        overlap=overlap if members.overlap else None,
        product=overlap if members.product else None,
        nll=sums_NSC[:, slots.NLL] if members.nll else None,
        nll_all=sums_NSC[:, slots.NLL_ALL] if members.nll_all else None,
        focal=extra,
        power=power,
        predicted=count["predicted"] if members.hits else None,
        hits=count["hits"] if members.hits else None,
        errors=errors if members.errors else None,
        error_counts=error_counts if members.errors else None,
        peak=peak if members.errors and members.absent else None,
        ranked=_ranked(ranked, None),
        pixel_nll=pixel if members.pixel_nll else None,
    )


def margin_members(raw, members: Members, per_image: bool, weighted: bool, pair: bool) -> SegmentStatistics:
    """The statistics of rows of margins, from what `margin_sums` returns; `pair`: the one row of a softmax over two channels."""
    sums_NR2S, counts_NR23, errors, error_counts, peak, _, pixel, _, *ranked = raw
    error_counts = error_counts.detach()  # counts carry no gradient
    if not per_image:
        sums_NR2S, counts_NR23 = sums_NR2S.sum(0, keepdim=True), counts_NR23.sum(0, keepdim=True)
    S = sums_NR2S.shape[3]
    pixels_NR2 = counts_NR23[..., slots.PIXELS]
    n_NR2 = sums_NR2S[..., S - 2].detach() if weighted else pixels_NR2
    hits_NR2 = sums_NR2S[..., S - 1].detach() if weighted else counts_NR23[..., slots.MARGIN_HITS]

    def by_class(of_background: Tensor, of_foreground: Tensor) -> Tensor:
        """Two softmax channels: classes 0 and 1 from the two sides of the one row; else the foreground class of each row."""
        return torch.cat([of_background, of_foreground], 1) if pair else of_foreground

    def side(slot: int) -> tuple[Tensor, Tensor]:
        return sums_NR2S[:, :, 0, slot], sums_NR2S[:, :, 1, slot]

    n0, n1 = n_NR2[..., 0], n_NR2[..., 1]
    labels = by_class(n0, n1)
    prob = prob_sq = overlap = nll = nll_rest = nll_all = predicted = hits = None
    if members.prob or members.prob_sq or members.overlap or members.product:
        miss0, miss1 = side(slots.MISS)
        prob = by_class(n0 - miss0 + miss1, n1 - miss1 + miss0)
        overlap = by_class(n0 - miss0, n1 - miss1)
        if members.prob_sq:
            every = sum(side(slots.MISS_SQ))
            prob_sq = by_class(n0 - 2 * miss0 + every, n1 - 2 * miss1 + every)
    if members.nll or members.nll_all:
        nll0, nll1 = side(slots.MARGIN_NLL)
        nll, nll_rest = by_class(nll0, nll1), None if pair else nll0
        if members.nll_all:  # the other class's -log p is this one's plus the margin
            margin0, margin1 = side(slots.MARGIN)
            nll_all = by_class(nll0 + nll1 + margin1, nll0 + nll1 + margin0)
    if members.hits:
        hit0, hit1 = hits_NR2[..., 0], hits_NR2[..., 1]
        predicted, hits = by_class(hit0 + n1 - hit1, hit1 + n0 - hit0), by_class(hit0, hit1)
    focal = {g: side(slots.MARGIN_FIXED_SLOTS + i) for i, g in enumerate(members.focal)}
    power = {q: side(slots.MARGIN_FIXED_SLOTS + len(members.focal) + i) for i, q in enumerate(members.power)}
    if members.errors and pair:
        errors = torch.cat([errors.flip(2), errors], 1)
        error_counts = torch.cat([error_counts.flip(2), error_counts], 1)
    return SegmentStatistics(
        pixels=pixels_NR2.sum(2).expand_as(labels),
        valid=(n0 + n1).expand(-1, 2) if pair else n0 + n1,
        labels=labels,
        labels_sq=labels,
        prob=prob if members.prob else None,
        prob_sq=prob_sq,
        overlap=overlap if members.overlap else None,
        product=overlap if members.product else None,
        nll=nll if members.nll else None,
        nll_rest=nll_rest if members.nll else None,
        nll_all=nll_all,
        focal={g: by_class(*f) for g, f in focal.items()},
        focal_rest={} if pair else {g: f[0] for g, f in focal.items()},
        power={q: by_class(*f) for q, f in power.items()},
        predicted=predicted,
        hits=hits,
        errors=errors if members.errors else None,
        error_counts=error_counts if members.errors else None,
        peak=by_class(peak[:, :, 1], peak[:, :, 0]) if members.errors and members.absent else None,
        ranked=_ranked(ranked, pair),
        pixel_nll=(pixel[:, 0] if pair else pixel) if members.pixel_nll else None,
    )
