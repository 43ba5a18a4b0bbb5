"""Every file under configs/: what its first lines say, whether its parts fit, and a training step on files of the right layout."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.data.conftest import Tree

from evenseg.config import dump_config, load_config
from evenseg.engine import check_signatures, cross_check, loss_sections, train
from evenseg.engine.class_weights import with_class_weights
from evenseg.engine.defaults import dump_with_defaults
from evenseg.losses import build_loss

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.y*ml"))
RECIPES = [file for file in FILES if file.parent.name != "_base_"]
BASES = [file for file in FILES if file.parent.name == "_base_"]
PICTURE = (72, 96)
SHARED = {  # root of the shared data -> classes
    "camvid": 11, "crackforest": 2, "drive": 2, "magnetic_tile": 6, "acdc_scribbles": 4, "grabcut_scribbles": 2,
}  # fmt: skip


def named(file):
    return str(file.relative_to(CONFIGS).with_suffix(""))


def bases_of(file):
    """The files that a file builds on, all the way down."""
    bases = yaml.safe_load(file.read_text()).get("_base_", [])
    found = {(file.parent / base).resolve() for base in ([bases] if isinstance(bases, str) else bases)}
    return found.union(*map(bases_of, found))


def test_the_families_are_there():
    assert {file.parent.name for file in RECIPES} >= {
        "ocrnet", "enet", "deeplabv3p", "recall", "scribbles", "camvid", "crackforest", "drive", "magnetic_tile", "synthetic",
    }  # fmt: skip
    assert [file.name for file in CONFIGS.glob("*.*")] == []
    described = (ROOT / "docs" / "recipes.md").read_text()
    assert all(re.search(rf"^\|.*\b{file.parent.name}\b.*\|", described, re.M) for file in RECIPES)


def test_every_base_is_used():
    used = set().union(*map(bases_of, RECIPES))
    assert {file.resolve() for file in BASES} <= used
    for file in BASES:
        assert file.read_text().startswith("# base: ")


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_the_first_line_says_command_score_duration_and_device(file):
    first = file.read_text(encoding="utf-8").splitlines()[0]
    command, score, duration, device = first.removeprefix("# ").split(" | ")
    config = load_config(file)
    assert re.fullmatch(r"evenseg (train|compare) (\S+)( --seeds 0 1 2)?", command)
    assert command.split()[2] == str(file.relative_to(ROOT))
    assert command.split()[1] == ("train" if config.loss else "compare")
    assert re.search(r"published|measured", score)
    assert "measured" in duration or re.search(r"\d", duration)
    assert re.search(r"GPU|CPU|V100", device)


@pytest.mark.parametrize(
    "name", ["enet/enet_camvid_480x360_lovasz_finetune", "magnetic_tile/compare_2core_equibatch", "scribbles/grabcut_2core"]
)
def test_with_its_defaults_written_out_a_recipe_builds_the_same_parts(name, tmp_path):
    config = load_config(CONFIGS / f"{name}.yml")
    written = tmp_path / "written.yml"
    written.write_text(dump_with_defaults(config))
    again = load_config(written)
    check_signatures(again)
    for path, section in loss_sections(config).items():
        assert str(build_loss(section, iters=config.iters)) == str(build_loss(loss_sections(again)[path], iters=config.iters))
    assert again.iters == config.iters
    assert again.model.keywords.items() >= config.model.keywords.items()
    assert len(written.read_text()) > 1.2 * len(dump_config(config))


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_parts_fit_without_data(file):
    config = load_config(file)
    if config.train_dataset.type == "FolderDataset" or bases_of(file) & {one.resolve() for one in RECIPES}:
        check_signatures(config)  # the classes are not known, or those of the recipe it builds on
    else:
        assert cross_check(config).classes is not None
    assert config.model.keywords.get("pretrained", "none") == "none", "nothing is fetched unless asked for"


def labels(rng, classes, ignored=255):
    """A mask with every class and some ignored pixels, in blocks large enough to be found in any crop."""
    blocks = rng.permuted(np.resize([*range(classes), ignored], (PICTURE[0] // 8) * (PICTURE[1] // 8)))
    blocks = blocks.reshape(PICTURE[0] // 8, PICTURE[1] // 8)
    return np.kron(blocks, np.ones((8, 8), int)).astype(np.uint8)


def write_data(root, config):
    """Writes two images per split under the names of the recipe's data set; returns what to override."""
    tree, rng = Tree(root), np.random.default_rng(0)
    section = config.train_dataset
    kind = section.type

    def image(path):
        tree.image(path, size=PICTURE, value=int(rng.integers(60, 200)))

    if kind == "Cityscapes":
        for split in ("train", "val"):
            for stem in ("aachen_000000_000019", "aachen_000001_000019"):
                image(f"leftImg8bit/{split}/aachen/{stem}_leftImg8bit.png")
                ids = np.array([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33, 0])[labels(rng, 19, 19)]
                tree.mask(f"gtFine/{split}/aachen/{stem}_gtFine_labelIds.png", ids)
    elif kind == "MiniDeepGlobeRoadExtraction":
        for split in ("train", "val"):
            for stem in "ab":
                image(f"images/{split}_{stem}.jpg")
                tree.mask(f"masks/{split}_{stem}.png", labels(rng, 2))
            tree.text(f"{split}.txt", "".join(f"images/{split}_{s}.jpg|masks/{split}_{s}.png\n" for s in "ab"))
    elif kind == "CamVid":
        for split in ("train", "val", "test"):
            for stem in "ab":
                image(f"{split}/{stem}.png")
                tree.mask(f"{split}annot/{stem}.png", labels(rng, 11, 11))
    elif kind == "PascalVOCAug":
        for stem in ("2007_000032", "2007_000039"):
            image(f"JPEGImages/{stem}.jpg")
            tree.mask(f"SegmentationClassAug/{stem}.png", labels(rng, 21))
        for split in ("trainaug", "val"):
            tree.text(f"ImageSets/Segmentation/{split}.txt", "2007_000032\n2007_000039\n")
    elif kind == "SynthiaSeqs":
        for number in range(10):
            image(f"RGB/Stereo_Left/Omni_F/{number:06d}.png")
            pixels = np.stack([labels(rng, 16, 0).astype(np.uint16)] * 3, axis=-1)
            tree.wide_png(f"GT/LABELS/Stereo_Left/Omni_F/{number:06d}.png", pixels)
    elif kind == "FolderDataset":
        classes = SHARED[Path(section.keywords["root"]).name]
        entries = [{"id": i, "name": f"class {i}", "color": [i, 0, 0]} for i in range(classes)]
        tree.text("classes.json", json.dumps({"classes": entries, "ignore_index": 255}))
        for split in ("train", "val", "test"):
            for stem in "ab":
                image(f"images/{split}/{stem}.jpg")
                for folder in {"masks", section.keywords.get("masks", "masks")}:
                    tree.mask(f"{folder}/{split}/{stem}.png", labels(rng, classes))
    elif kind != "SyntheticRoads":
        pytest.fail(f"no files are written for {kind}; add them here")


def shrunk(file, root):
    """Overrides that make a recipe train in a moment on tiny pictures."""
    config = load_config(file)
    root.mkdir()
    write_data(root, config)
    where = [f"train_dataset.root={root}"] if "root" in config.train_dataset.keywords else []
    overrides = [*where, "batch_size=2", "num_workers=0", "device=cpu", "iters=2", "eval_interval=2"]
    for index, transform in enumerate(config.train_dataset.transforms):
        if "size" in transform.keywords:
            overrides.append(f"train_dataset.transforms[{index}].size=[64, 64]")
    for path, section in loss_sections(config).items():
        # every phase gets a step
        overrides += [f"{path}.phases[{index}].start={index + 1}" for index in range(len(section.get("phases") or []))]
    if bases_of(file) & {one.resolve() for one in RECIPES}:
        # a variant differs in losses and data, not in the network
        overrides += {"OCRNet": ["model.backbone=hrnet_w18_small"], "SMP": ["model.encoder_name=resnet18"]}.get(config.model.type, [])
    return overrides


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_a_step_on_generated_data(file, tmp_path):
    config = load_config(file, shrunk(file, tmp_path / "data"))
    sections = loss_sections(config)
    first, *others = sections
    folder = train(config.model_copy(update={"loss": sections[first], "losses": None}), tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "val"] == [2]
    assert all(np.isfinite(row["loss"]) for row in rows)
    if not others:
        return
    # the other losses of a comparison: value and gradient
    count = len(json.loads((folder / "summary.json").read_text())["classes"])
    torch.manual_seed(0)
    logits = torch.randn(2, count, 16, 16, requires_grad=True)
    target = torch.randint(0, count, (2, 16, 16), dtype=torch.uint8)
    target[:, 0] = 255
    context = {"image": torch.rand(2, 3, 16, 16), "features": torch.rand(2, 5, 16, 16)}
    for path in others:
        section = with_class_weights(sections[path], path, count, None)
        loss = build_loss(section, num_classes=count, ignore_index=255, iters=config.iters)
        outputs = [logits] * len(section["coef"])
        for start in getattr(loss, "starts", [None]):
            if start is not None:
                loss.set_step(start)
            (gradient,) = torch.autograd.grad(loss(outputs, target, **context), logits)
            assert torch.isfinite(gradient).all(), path
            assert gradient.abs().max() > 0, path
            labels_only = all(getattr(part, "uses_labels", True) for part in loss.modules())
            assert (gradient[:, :, 0].abs().max() == 0) == labels_only, path


def test_phases_of_the_comparisons_move_with_the_number_of_steps():
    file = CONFIGS / "camvid" / "compare_2core.yml"
    for iters, step in ((900, 600), (90, 60), (10, 7)):
        config = load_config(file, [f"iters={iters}"])
        check_signatures(config)
        sections = [section for section in loss_sections(config).values() if "phases" in section]
        assert [build_loss(section, iters=iters).starts for section in sections] == [(0, step)]


@pytest.mark.parametrize("name", SHARED)
def test_recipes_fit_the_shared_data(shared_data, name):
    files = [file for file in RECIPES if Path(str(load_config(file).train_dataset.keywords.get("root"))).name == name]
    assert files
    for file in files:
        fit = cross_check(load_config(file, [f"train_dataset.root={shared_data / name}"]))
        assert fit.classes.num_classes == SHARED[name]
