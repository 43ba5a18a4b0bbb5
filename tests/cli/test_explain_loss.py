import json

import numpy as np
import pytest
from typer.testing import CliRunner

from evenseg.cli import app
from evenseg.losses.example_batch import example_batch


def explain(*arguments):
    return CliRunner().invoke(app, ["explain-loss", *map(str, arguments)], env={"COLUMNS": "160"})


def test_presets_and_the_words_that_explain_them(tmp_path):
    file = tmp_path / "new" / "why.json"
    result = explain("mmseg.cross_entropy", "CrossEntropyLoss", "--json", file)
    assert result.exit_code == 0, result.output
    for part in ("2 x 4 x 48 x 64", "CrossEntropyLoss(divisor='pixels')", "divisor", "pixels", "weights", "100 %"):
        assert part in result.stdout
    assert result.stdout.rstrip().endswith("divisor explains the difference.")
    found = json.loads(file.read_text())
    assert found["needed"]["option"] == "divisor"
    assert found["needed"]["value"] == pytest.approx(found["b"]["value"])
    assert found["verdict"] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("smp.dice", "smp.dice"), "A and B give the same value and gradient on this batch to 1e-7."),
        (("DiceLoss", "{type: DiceLoss, overlap: product}"), "to 1e-7, though they differ in overlap. Try --absent"),
        (("smp.dice", "monai.dice"), "per_image and absent_as_zero together explain the difference (99 % of it and more)."),
        (("CrossEntropyLoss", "DiceLoss"), "A and B are different formulas; no option that both have explains the difference."),
        (("paddleseg.lovasz_hinge", "berman.lovasz_hinge"), "two_channels and per_image together explain the difference."),
        (("smp.lovasz", "{type: smp.lovasz, per_image: true}", "--classes", "3"), "per_image explains the difference."),
        (("torch.nn.CrossEntropyLoss", "{type: CrossEntropyLoss, divisor: pixels}"), "no option that both have explains"),
        (("torch.nn.CrossEntropyLoss", "torch.cross_entropy"), "A and B give the same value and gradient on this batch to 1e-7"),
        (("{type: smp.lovasz, mode: multilabel}", "{type: DiceLoss, mode: multilabel}"), "A and B are different formulas"),
    ],
)
def test_verdicts(arguments, sentence):
    result = explain(*arguments)
    assert result.exit_code == 0, result.output
    assert sentence in " ".join(result.stdout.split())


def test_losses_from_files_and_a_batch_of_ones_own(tmp_path):
    base = tmp_path / "base.yml"
    base.write_text("loss: {types: [{type: smp.dice}, {type: CrossEntropyLoss}], coef: [1, 0.4]}\n")
    child = tmp_path / "child.yml"
    child.write_text("_base_: base.yml\niters: 10\n")
    study = tmp_path / "study.yml"
    study.write_text("losses: {ce: {types: [{type: CrossEntropyLoss}], coef: [1]}, dice: {types: [{type: DiceLoss}], coef: [1]}}\n")
    logits, labels = example_batch(3)
    np.savez(tmp_path / "batch.npz", logits=logits.float().numpy(), labels=labels.numpy().astype(np.uint8))
    result = explain(child, f"{study}:dice", "--batch", tmp_path / "batch.npz")
    assert result.exit_code == 0, result.output
    assert "2 x 3 x 48 x 64" in result.stdout
    assert "DiceLoss(classes='all', absent_as_zero=True, eps=2e-07)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smp.dise", "DiceLoss"), "A: unknown preset 'smp.dise'; did you mean 'smp.dice'?"),
        (("DiceLoss", "DiceLos"), "B: unknown loss 'DiceLos'"),
        (("DiceLoss", "{type: DiceLoss, smoth: 1}"), "DiceLoss has no keyword 'smoth'; did you mean"),
        (("DiceLoss", "{type: [}"), "B: '{type: [}' is no YAML"),
        (("DiceLoss", "{smooth: 1}"), "B: has no loss; expected {type: NAME, ...}"),
        (("DiceLoss", "missing.yml"), "missing.yml: no such file"),
        (("DiceLoss", "STUDY"), "has several losses (ce, dice); write"),
        (("DiceLoss", "STUDY:dise"), "unknown loss 'dise'; allowed: ce, dice; did you mean 'dice'?"),
        (("DiceLoss", "FocalLoss", "--ignored", "1"), "ignored must lie in [0, 1), got 1"),
        (("DiceLoss", "{type: DiceLoss, reduction: none}"), "reduction='none' gives no single number"),
        (("DiceLoss", "LovaszHingeLoss", "--classes", "3"), "mode='binary' needs logits"),
        (("DiceLoss", "FocalLoss", "--batch", "NOWHERE"), "No such file"),
        (("DiceLoss", "FocalLoss", "--batch", "STUDY"), "is no .npz file of plain arrays"),
        (("DiceLoss", "FocalLoss", "--batch", "NAMES"), "has no array 'labels', only logits; expected logits and labels"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    study = tmp_path / "study.yml"
    study.write_text("losses: {ce: {type: CrossEntropyLoss}, dice: {type: DiceLoss}}\n")
    np.savez(tmp_path / "names.npz", logits=np.zeros((1, 2, 2, 2)))
    files = {"STUDY": str(study), "NAMES": str(tmp_path / "names.npz"), "NOWHERE": str(tmp_path / "no.npz")}
    result = explain(*(files.get(x.partition(":")[0], x.partition(":")[0]) + x[len(x.partition(":")[0]) :] for x in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_presets_are_listed():
    result = CliRunner().invoke(app, ["losses", "--presets"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    for part in ("segmentation-models-pytorch 0.6", "smp.dice: DiceLoss", "log_loss, from_logits, smooth", "engine, sync, method"):
        assert part in result.stdout
