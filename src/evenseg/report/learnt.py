"""Which classes the runs of a study learnt at all: a comparison with a baseline that learnt none shows little."""

from evenseg.report.records import Study

# IoU below which a class counts as not learnt: chance hits of a network that hardly predicts it
LEARNT = 0.01


def not_learnt(study: Study, loss: str) -> list[str]:
    """The classes whose IoU stays below LEARNT with every seed of a loss; classes absent from the images are left out."""
    rows = [study.class_iou(run) for run in study.of(loss).values()]
    names = []
    for c, name in enumerate(study.classes):
        known = [value for row in rows if (value := row[c]) is not None]
        if known and max(known) < LEARNT:
            names.append(name)
    return names


def learnt(study: Study, loss: str) -> list[str]:
    """The classes whose IoU reaches LEARNT with at least one seed of a loss."""
    rows = [study.class_iou(run) for run in study.of(loss).values()]
    return [name for c, name in enumerate(study.classes) if any((row[c] or 0) >= LEARNT for row in rows)]


def hardly_learns(study: Study, loss: str) -> bool:
    """Whether a loss has learnt one class or none, or half of the others or more are not learnt."""
    missing = len(not_learnt(study, loss))
    known = missing + len(learnt(study, loss))
    return missing > 0 and 2 * missing >= known - 1


def never_predicted(study: Study) -> list[str]:
    """The classes that no run ever predicts although images show them.

    Where every run was evaluated, by its confusion matrix; otherwise those whose IoU is 0 with every run.
    """
    runs = list(study.runs.values())
    if study.evaluated:
        evaluations = [run.evaluations[study.evaluated[0]] for run in runs]
        matrices = [(e.labelled, e.predicted) for e in evaluations if e.labelled is not None and e.predicted is not None]
        if len(matrices) == len(runs):
            return [
                name
                for c, name in enumerate(study.classes)
                if any(labelled[c] for labelled, _ in matrices) and not any(predicted[c] for _, predicted in matrices)
            ]
    rows = [study.class_iou(run) for run in runs]
    return [name for c, name in enumerate(study.classes) if rows and all(row[c] == 0 for row in rows)]
