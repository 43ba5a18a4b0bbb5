"""Sentences: each case of a result is worded as what it shows."""

import json
from dataclasses import replace

import pytest

from conftest import write_study
from evenseg.report import wording
from evenseg.report.folders import read_study
from evenseg.report.statistics import paired_difference
from evenseg.report.tables import Comparison


def comparison(loss, differences):
    result = paired_difference(differences, [0.0] * len(differences)) if differences else None
    return Comparison(loss, tuple(range(len(differences))), tuple(differences), result)


def headline(study, **differences):
    return wording.study_headline(read_study(study[0]), [comparison(k, v) for k, v in differences.items()])


def test_better(study):
    text = headline(study, A=[2.0, 2.1, 1.9])
    assert text == "A beats CE by 2.00 points of mIoU (95 % interval +1.75 to +2.25, 3 seeds)."
    text = headline(study, A=[2.0, 2.1, 1.9], B=[3.0, 3.1, 2.9], C=[-1.0, -1.1, -1.2])
    assert text.startswith("B beats CE by 3.00 points of mIoU (")
    assert text.endswith("It is one of 2 losses that beat the baseline.")


def test_worse(study):
    text = headline(study, A=[-2.0, -2.1, -1.9])
    assert text == "A falls behind CE by 2.00 points of mIoU (95 % interval −2.25 to −1.75, 3 seeds)."
    text = headline(study, A=[-2.0, -2.1, -1.9], B=[-1.0, -1.1, -0.9])
    assert text.startswith("CE beats every other loss: the closest, B, is 1.00 points of mIoU below (95 % interval")
    text = headline(study, A=[-9.0, 1.0], B=[-1.0, -1.1, -0.9])
    assert text.startswith("No loss is shown to beat CE: the closest, B, is 1.00 points of mIoU below (95 % interval")


def test_undecided(study):
    text = headline(study, A=[2.0, -1.0, 0.5])
    assert text.startswith("No difference is shown: A is 0.50 points of mIoU above CE on average, but the interval")
    assert "contains 0 (95 % interval −3.23 to +4.23, 3 seeds)" in text
    text = headline(study, A=[2.0, -1.0, 0.5], B=[-5.0, 0.0, -2.0])
    assert text.startswith("No loss is shown to beat CE: the highest, A, is 0.50 points of mIoU above CE")


def test_the_highest_mean_does_not_hide_a_shown_loss_of_another(study):
    """The highest mean is undecided, another loss is worse: the headline must not claim anything for either."""
    text = headline(study, A=[4.0, -1.0, 0.5], B=[-2.0, -2.1, -1.9])
    assert text.startswith("No loss is shown to beat CE: the highest, A")


def test_a_shown_gain_is_told_even_if_an_uncertain_mean_is_higher(study):
    text = headline(study, A=[9.0, -1.0, 2.0], B=[2.0, 2.1, 1.9])
    assert text.startswith("B beats CE by 2.00 points of mIoU")


def test_equal(study):
    assert headline(study, A=[0.0, 0.0]) == (
        "No difference is shown: A has the same mean mIoU as CE (95 % interval 0.00 to 0.00, 2 seeds)."
    )
    assert "A equals CE in mIoU" in headline(study, A=[0.0])


def test_no_pair(study):
    assert headline(study, A=[]).startswith("No difference can be given, since no seed finished with both losses")


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([2.0, 2.1, 1.9], "Better than CE: the interval leaves out 0; higher with 3 of 3 seeds."),
        ([-2.0, -2.1], "Worse than CE: the interval leaves out 0; higher with 0 of 2 seeds."),
        ([2.0, -1.0], "Undecided: the interval contains 0; higher than CE with 1 of 2 seeds."),
        ([2.0], "One pair of runs (higher here): no interval can be given, and nothing is shown."),
        ([], "No seed finished with both losses, so there is no difference to CE to report."),
    ],
)
def test_verdicts(differences, expected):
    assert wording.verdict(comparison("A", differences), "CE") == expected


def test_numbers():
    assert [wording.number(v) for v in (1.005, -0.001, -2.5)] == ["1.00", "0.00", "−2.50"]
    assert [wording.signed(v) for v in (1.0, 0.004, -0.004, -2.5)] == ["+1.00", "0.00", "0.00", "−2.50"]
    assert wording.counted(1, "loss") == "1 loss"
    assert wording.counted(2, "loss") == "2 losses"
    assert [wording.duration(s) for s in (3.21, 42.4, 185, 7800)] == ["3.2 s", "42 s", "3 min 5 s", "2 h 10 min"]


def test_what_does_not_survive_the_correction_is_not_claimed(study):
    result = paired_difference([2.0, 2.4, 1.2], [0.0] * 3)
    assert result.verdict == "better"
    other = comparison("B", [0.5, -0.5, 0.1])
    shaky = Comparison("A", (0, 1, 2), (2.0, 2.4, 1.2), result, p_holm=0.08)
    text = wording.study_headline(read_study(study[0]), [shaky, other])
    assert text.startswith("No loss is shown to beat CE: A is 1.87 points of mIoU above on average (95 % interval +")
    assert text.endswith("which does not hold after correction for 2 comparisons (p = 0.080).")
    assert wording.verdict(shaky, "CE").startswith("Undecided: the interval of this loss alone leaves out 0, but not after Holm's")
    sure = Comparison("A", (0, 1, 2), (2.0, 2.4, 1.2), result, p_holm=0.04)
    assert wording.study_headline(read_study(study[0]), [sure, other]).startswith("A beats CE by 1.87 points")


def test_two_seeds_are_called_what_they_are(study):
    notes = wording.study_caveats(read_study(study[0]), [comparison("A", [1.0, 1.1])])
    assert notes[0].startswith("Two paired seeds hardly tell how much chance there is")


def test_p_values():
    assert [wording.p_value(p) for p in (None, 0.0002, 0.0312, 0.456)] == ["", "< 0.001", "0.031", "0.46"]


def iou_study(tmp_path, scores, classes=("background", "road", "kerb"), confusion=None):
    """A study of losses with these IoUs of the classes, one list for each seed."""
    write_study(tmp_path, dict.fromkeys(scores, 0.5), seeds=range(len(next(iter(scores.values())))), evaluated=("val",))
    for loss, rows in scores.items():
        for seed, iou in enumerate(rows):
            run = tmp_path / "runs" / loss / f"seed-{seed}"
            for file, key in ((run / "summary.json", "best"), (run / "evaluation" / "val.json", None)):
                data = json.loads(file.read_text())
                (data[key] if key else data)["iou"] = iou
                if key is None and confusion is not None:
                    data["confusion"] = confusion[loss]
                file.write_text(json.dumps(data))
    return read_study(tmp_path)


def told(study):
    comparisons = [comparison("A", [2.0, 2.1])]
    return wording.study_headline(study, comparisons), wording.study_caveats(study, comparisons)


def test_a_baseline_of_one_class_is_named_in_the_headline(tmp_path):
    scores = {"CE": [[0.9, 0.0, 0.0], [0.8, 0.004, 0.0]], "A": [[0.9, 0.3, 0.1], [0.9, 0.4, 0.0]]}
    headline, notes = told(iou_study(tmp_path, scores))
    assert headline.startswith("A beats CE by 2.05 points of mIoU")
    assert headline.endswith(
        " But CE learnt only background: the IoU of road and kerb stays below 1 % with every seed, so comparisons with it are "
        "no evidence for another loss."
    )
    assert not any("ever predicts" in note for note in notes)


def test_a_baseline_that_misses_all_rare_classes_is_named(tmp_path):
    scores = {"CE": [[0.9, 0.3, 0.0], [0.9, 0.3, 0.0]], "A": [[0.9, 0.3, 0.1], [0.9, 0.4, 0.0]]}
    headline, _ = told(iou_study(tmp_path, scores))
    assert "But CE learnt only background and road: the IoU of kerb stays below 1 %" in headline
    nothing = {"CE": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "A": scores["A"]}
    assert "But CE learnt no class" in told(iou_study(tmp_path / "nothing", nothing))[0]


def test_a_baseline_that_learnt_is_not_blamed(tmp_path):
    once = {"CE": [[0.9, 0.3, 0.0], [0.9, 0.3, 0.02]], "A": [[0.9, 0.3, 0.0], [0.9, 0.4, 0.0]]}
    headline, notes = told(iou_study(tmp_path, once))
    assert "But CE" not in headline
    assert not any("leaves" in note or "ever predicts" in note for note in notes)
    absent = {"CE": [[0.9, 0.3, None], [0.9, 0.3, None]], "A": [[0.9, 0.3, None], [0.9, 0.4, None]]}
    headline, notes = told(iou_study(tmp_path / "absent", absent))
    assert "But CE" not in headline
    assert not any("ever predicts" in note for note in notes)


def test_classes_that_no_run_predicts_are_named(tmp_path):
    scores = {"CE": [[0.9, 0.3, 0.0], [0.9, 0.3, 0.0]], "A": [[0.9, 0.3, 0.0], [0.9, 0.4, 0.0]]}
    note = "No run ever predicts kerb: nothing here says which loss would learn it."
    assert note in told(iou_study(tmp_path / "by_iou", scores))[1]
    # an IoU of 0 is not yet "never predicted": A predicts it, always wrongly
    nothing, wrong = [[9, 1, 0], [1, 9, 0], [2, 1, 0]], [[9, 1, 0], [1, 8, 1], [2, 1, 0]]
    guessed = iou_study(tmp_path / "guessed", scores, confusion={"CE": nothing, "A": wrong})
    assert not any("ever predicts" in line for line in told(guessed)[1])
    never = iou_study(tmp_path / "never", scores, confusion={"CE": nothing, "A": nothing})
    assert note in told(never)[1]


def test_few_of_many_classes_missing_is_a_note(tmp_path, study):
    full = read_study(study[0])
    assert not any("leaves" in note for note in wording.study_caveats(full, []))
    run = full.runs["CE", 0]
    best = replace(run.best, iou=(0.9, 0.8, 0.7, 0.6, 0.0))
    runs = {key: replace(value, best=best) for key, value in full.runs.items()}
    five = replace(full, classes=("a", "b", "c", "d", "e"), runs=runs)
    assert "But CE" not in wording.study_headline(five, [comparison("A", [1.0, 1.1])])
    assert any(note.startswith("CE leaves e below 1 % IoU with every seed") for note in wording.study_caveats(five, []))


def test_a_confusion_matrix_of_another_size_is_refused(tmp_path):
    scores = {"CE": [[0.9, 0.3, 0.0]], "A": [[0.9, 0.3, 0.0]]}
    with pytest.raises(ValueError, match=r"val\.json: confusion has rows of \[2, 2\]; allowed: 3 rows of as many"):
        iou_study(tmp_path, scores, confusion={"CE": [[1, 2], [3, 4]], "A": [[1, 2], [3, 4]]})


def test_lists_of_names():
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b"]) == "a and b"
    assert wording.listed(list("abcdef")) == "a, b, c, d, e and f"
    assert wording.listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
