"""Sentences computed from the numbers; they claim no more than the seeds show."""

from collections.abc import Sequence

from evenseg.report.learnt import LEARNT, hardly_learns, learnt, never_predicted, not_learnt
from evenseg.report.records import SCORES, Run, Study
from evenseg.report.tables import Comparison, summarise

FEW_SEEDS = 5


def number(value: float, decimals: int = 2) -> str:
    """A number with a true minus sign; never a minus before a rounded zero."""
    text = f"{abs(value):.{decimals}f}"
    return f"−{text}" if value < 0 and float(text) != 0 else text


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign; a rounded zero has none."""
    text = number(value, decimals)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def counted(n: int, noun: str) -> str:
    """`1 seed`, `2 seeds`; `1 loss`, `2 losses`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


def duration(seconds: float) -> str:
    """A duration as a person says it: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def interval(comparison: Comparison) -> str:
    """The confidence interval in points, `+0.31 to +2.10`; empty where none can be given."""
    result = comparison.result
    if result is None or result.low is None or result.high is None:
        return ""
    return span((result.low, result.high))


def span(ends: tuple[float, float] | None) -> str:
    """An interval in points; empty where there is none."""
    return "" if ends is None else f"{signed(ends[0])} to {signed(ends[1])}"


def verdict(comparison: Comparison, baseline: str) -> str:
    """What the numbers say about one loss against the baseline, in one plain sentence."""
    result = comparison.result
    if result is None:
        return f"No seed finished with both losses, so there is no difference to {baseline} to report."
    won = f"{result.wins} of {counted(result.n, 'seed')}"
    if result.verdict == "no interval":
        side = "higher" if result.mean > 0 else "lower" if result.mean < 0 else "equal"
        return f"One pair of runs ({side} here): no interval can be given, and nothing is shown."
    if result.verdict == "undecided":
        return f"Undecided: the interval contains 0; higher than {baseline} with {won}."
    if comparison.verdict == "uncorrected":
        return (
            f"Undecided: the interval of this loss alone leaves out 0, but not after Holm's correction for all losses "
            f"compared; higher than {baseline} with {won}."
        )
    return f"{result.verdict.capitalize()} than {baseline}: the interval leaves out 0; higher with {won}."


def p_value(p: float | None) -> str:
    """A p-value with as many digits as it bears; empty where there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """`A`, `A and B`, `A, B and C`; of many, the first few and how many more."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def study_headline(study: Study, comparisons: Sequence[Comparison]) -> str:
    """The result of a study in one sentence, and a second one where the baseline is none to compare with."""
    return _result(study, comparisons) + _baseline_warning(study)


def _baseline_warning(study: Study) -> str:
    baseline = study.losses[0]
    if len(study.losses) == 1 or not hardly_learns(study, baseline):
        return ""
    found, missing = learnt(study, baseline), not_learnt(study, baseline)
    only = f"learnt only {listed(found)}" if found else "learnt no class"
    return (
        f" But {baseline} {only}: the IoU of {listed(missing)} stays below {100 * LEARNT:.0f} % with every seed, so "
        "comparisons with it are no evidence for another loss."
    )


def _result(study: Study, comparisons: Sequence[Comparison]) -> str:
    metric = SCORES[study.metric]
    baseline = study.losses[0]
    if study.judged_on_test:
        metric = f"test {metric}"
    summaries = {}
    for loss in study.losses:
        summary = summarise(study.scores(run)[study.metric] for run in study.of(loss).values())
        if summary is not None:
            summaries[loss] = summary
    if not summaries:
        return "No run of this study has finished: there is nothing to report yet."
    if len(study.losses) == 1:
        only = summaries[baseline]
        spread = "" if only.sd is None else f" ± {number(only.sd)}"
        return (
            f"{baseline} reaches {number(only.mean)}{spread} % {metric} over {counted(only.n, 'seed')}; "
            "there is no other loss to compare it with."
        )
    known = [(c, c.result) for c in comparisons if c.result is not None]
    if not known:
        reached = "; ".join(f"{loss} {number(s.mean)} %" for loss, s in summaries.items())
        return f"No difference can be given, since no seed finished with both losses of a pair ({metric}: {reached})."
    # what is shown goes before what is merely higher
    shown = [pair for pair in known if pair[0].verdict == "better"]
    top, result = max(shown or known, key=lambda pair: pair[1].mean)
    size = f"{number(abs(result.mean))} points of {metric}"
    side = "above" if result.mean > 0 else "below"
    if result.verdict == "no interval":
        where = f"is {size} {side} {baseline}" if number(result.mean) != "0.00" else f"equals {baseline} in {metric}"
        return f"One seed, so nothing is shown yet: {top.loss} {where}, and no interval can be given."
    evidence = f"({100 * result.confidence:.0f} % interval {interval(top)}, {counted(result.n, 'seed')})"
    others = len(comparisons) > 1
    if top.verdict == "uncorrected":
        return (
            f"No loss is shown to beat {baseline}: {top.loss} is {size} {side} on average {evidence}, which does not hold "
            f"after correction for {counted(len(known), 'comparison')} (p = {p_value(top.p_holm)})."
        )
    if result.verdict == "better":
        tail = f" It is one of {len(shown)} losses that beat the baseline." if len(shown) > 1 else ""
        return f"{top.loss} beats {baseline} by {size} {evidence}.{tail}"
    if result.verdict == "worse":
        if not others:
            return f"{top.loss} falls behind {baseline} by {size} {evidence}."
        all_worse = all(c.verdict == "worse" for c in comparisons)
        start = f"{baseline} beats every other loss" if all_worse else f"No loss is shown to beat {baseline}"
        return f"{start}: the closest, {top.loss}, is {size} below {evidence}."
    start = f"No loss is shown to beat {baseline}" if others else "No difference is shown"
    which = f"the highest, {top.loss}," if others else top.loss
    if number(result.mean) == "0.00":
        return f"{start}: {which} has the same mean {metric} as {baseline} {evidence}."
    return f"{start}: {which} is {size} {side} {baseline} on average, but the interval contains 0 {evidence}."


def study_caveats(study: Study, comparisons: Sequence[Comparison]) -> list[str]:
    """What a reader must know before believing the headline."""
    notes = []
    baseline = study.losses[0]
    left_out = not_learnt(study, baseline)
    if left_out and not hardly_learns(study, baseline) and len(study.losses) > 1:
        notes.append(
            f"{baseline} leaves {listed(left_out)} below {100 * LEARNT:.0f} % IoU with every seed: a gain there may only say that "
            "another loss begins to learn sooner."
        )
    unpredicted = never_predicted(study)
    if unpredicted:
        them = "it" if len(unpredicted) == 1 else "them"
        notes.append(f"No run ever predicts {listed(unpredicted)}: nothing here says which loss would learn {them}.")
    sizes = [c.result.n for c in comparisons if c.result is not None]
    if sizes and min(sizes) == 2:
        notes.append(
            "Two paired seeds hardly tell how much chance there is: the interval reaches 12.7 standard errors to each side. "
            "Run at least three."
        )
    elif sizes and 1 < min(sizes) < FEW_SEEDS:
        notes.append(
            f"With only {counted(min(sizes), 'paired seed')} the interval leans on the assumption that differences "
            "are normally distributed; more seeds would narrow it."
        )
    elif sizes and min(sizes) == 1:
        notes.append("With one seed, chance and effect cannot be told apart; run at least three.")
    if sum(size > 1 for size in sizes) > 1:
        notes.append(
            f"{len(sizes)} losses are compared with the baseline. Each interval stands for itself; a loss counts as better or "
            "worse only if it still does after Holm's correction for all of them."
        )
    if study.judged_on_test:
        notes.append("Scores are of the test images, with the weights that were best on the validation images.")
    elif study.runs:
        notes.append(
            "Scores are taken at each run's best validation step, chosen on the same images they are measured on, "
            "which flatters every loss a little."
        )
    pruned = sum("pruned" in run.reason for run in study.missing)
    if pruned:
        notes.append(
            f"{counted(pruned, 'run')} lagged behind and {'was' if pruned == 1 else 'were'} stopped early, so the means of "
            "those losses are of their better runs."
        )
    return notes


def run_headline(run: Run) -> str:
    """The result of a single run in one sentence."""
    best, last = run.best.scores["miou"], run.last.scores["miou"]
    if best is None:
        return "No validation of this run has an mIoU: no class was labelled or predicted."
    text = f"{run.name} reaches {number(100 * best)} % validation mIoU at step {run.best.step} of {run.steps}"
    if last is not None and run.last.step != run.best.step:
        text += f", and ends at {number(100 * last)} %"
    return text + "."
