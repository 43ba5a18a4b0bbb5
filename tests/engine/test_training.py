"""What a configuration can ask of the training: averages, frozen parts, groups, clipping, accumulation, early stop, loggers."""

import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from evenseg.config import ConfigError, make_config
from evenseg.engine import evaluate, resolve, resume, train
from evenseg.engine.checkpoints import latest_checkpoint, list_checkpoints
from evenseg.engine.loggers import flat_metrics
from evenseg.engine.micro_batches import forward_in_parts
from evenseg.engine.module import SegmentationModule
from evenseg.engine.recorder import Recorder
from evenseg.engine.trainer import seed_everything
from evenseg.losses import LOSSES
from evenseg.losses.edge_network import EdgeNetwork
from evenseg.models import MODELS, LightUNet, WithFeatures


def rows(run, split):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["split"] == split]


def weights(run):
    checkpoint = torch.load(latest_checkpoint(run / "checkpoints"), weights_only=True)
    return {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items() if name.startswith("model.")}


class Plain(nn.Module):
    """A network without batch normalisation, which is the same function of an image in any batch."""

    num_outputs, stride = 2, 1

    def __init__(self, num_classes, in_channels=3, dropout=0.0):
        super().__init__()
        self.features = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.head, self.auxiliary = nn.Conv2d(8, num_classes, 1), nn.Conv2d(8, num_classes, 1)
        self.dropout = dropout

    def forward(self, image):
        features = F.dropout(F.relu(self.features(image)), self.dropout, self.training)
        return [self.head(features), self.auxiliary(F.avg_pool2d(features, 2))]


@pytest.fixture
def plain(tiny, monkeypatch):
    """A configuration of the network without batch normalisation."""
    monkeypatch.setitem(MODELS, "Plain", Plain)
    parts = [{"type": "LovaszSoftmaxLoss"}, {"type": "OhemCrossEntropyLoss", "min_kept": 500}]
    lovasz = {"type": "MixedLoss", "losses": [part | {"engine": "eager"} for part in parts], "coef": [1, 1]}
    tiny |= {"model": {"type": "Plain"}, "loss": {"types": [lovasz, {"type": "DiceLoss"}], "coef": [1, 0.4]}}
    return tiny | {"batch_size": 4, "optimizer": {"type": "SGD", "lr": 0.05}}


# --- accumulation


LOSS_OPTIONS = {"MixedLoss": {"losses": [LOSSES["DiceLoss"](), LOSSES["LovaszSoftmaxLoss"]()], "coef": [1, 2]}}
LOSS_OPTIONS["SemanticEdgeAwareLoss"] = {"edges": EdgeNetwork(2, hidden=4)}
ONE_LOGIT = ("BinaryCrossEntropyLoss", "LovaszHingeLoss")


@pytest.mark.parametrize("name", LOSSES)
def test_accumulation_gives_loss_and_gradient_of_the_whole_batch(name):
    """Also where parts of the batch lack a class or hold few valid pixels."""
    torch.manual_seed(0)
    model = Plain(2).double()
    image, mask = torch.randn(4, 3, 8, 8).double(), torch.randint(0, 2, (4, 8, 8))
    mask[0], mask[1, :6] = 0, 255
    loss = LOSSES[name](**LOSS_OPTIONS.get(name, {}))
    found = {}
    for parts in (1, 2, 4):
        model.zero_grad()
        *outputs, features = forward_in_parts(WithFeatures(model), image, parts)
        every = {"image": image.sigmoid(), "features": features}
        value = loss(outputs[0], mask, **{name: every[name] for name in getattr(loss, "requires", ())})
        value.backward()
        found[parts] = [value.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]]
    assert found[1][0] != 0
    for parts in (2, 4):
        for one, other in zip(found[1], found[parts], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_mean_of_the_parts_losses_would_be_another_one():
    """What is usually called accumulation; if this fails, the test above shows nothing."""
    torch.manual_seed(0)
    logits, mask = torch.randn(4, 2, 8, 8), torch.randint(0, 2, (4, 8, 8))
    mask[:2, :7] = 0
    loss = LOSSES["LovaszSoftmaxLoss"](engine="eager")
    parts = torch.stack([loss(logits[i : i + 2], mask[i : i + 2]) for i in (0, 2)]).mean()
    assert abs(parts - loss(logits, mask)) > 1e-3


def test_parts_draw_the_same_dropout_twice_and_touch_running_means_once():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, image):
            return [self.net(image)]

    listed, image = Listed(), torch.randn(4, 3, 6, 6)
    first = {name: value.clone() for name, value in listed.named_buffers()}
    torch.manual_seed(3)
    forward_in_parts(listed, image, 2)[0].square().mean().backward()
    in_parts, once = [p.grad.clone() for p in listed.parameters()], {n: b.clone() for n, b in listed.named_buffers()}
    for name, buffer in listed.named_buffers():
        buffer.copy_(first[name])
    listed.zero_grad()
    torch.manual_seed(3)
    torch.cat([listed(part)[0] for part in image.chunk(2)]).square().mean().backward()
    for one, other in zip(in_parts, listed.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)
    for name, buffer in listed.named_buffers():
        torch.testing.assert_close(once[name], buffer)
    assert int(once["net.1.num_batches_tracked"]) == 2


def test_accumulation_changes_no_run(plain, tmp_path):
    whole = train(make_config(plain), tmp_path / "whole")
    parts = train(make_config(plain | {"accumulate": 2}), tmp_path / "parts")
    for one, other in zip(rows(whole, "train"), rows(parts, "train"), strict=True):
        assert one["step"] == other["step"]
        assert one["terms"] == pytest.approx(other["terms"], rel=1e-5)
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(parts)[name], rtol=1e-4, atol=1e-6)


def test_the_batch_must_divide(tiny):
    with pytest.raises(ConfigError, match="batch_size 6 does not divide evenly among 2 devices x 2 micro-batches"):
        make_config(tiny | {"batch_size": 6, "devices": 2, "accumulate": 2})


# --- clipping


@pytest.mark.parametrize(("clip", "largest"), [({"max_norm": 1e-3}, 1e-3), ({"max_value": 1e-5}, 1e-5)])
def test_clipping_bounds_a_step(plain, tmp_path, clip, largest):
    plain |= {"iters": 1, "eval_interval": 1, "lr_scheduler": {"type": "Constant"}, "optimizer": {"type": "SGD", "lr": 1.0}}
    run = train(make_config(plain | {"clip_grad": clip}), tmp_path / "run")
    start = resolve(make_config(plain))

    seed_everything(0)
    before = dict(start.build_model().named_parameters())
    step = torch.cat([(weights(run)[name] - value.detach()).flatten() for name, value in before.items()])
    size = step.norm() if "max_norm" in clip else step.abs().max()
    assert float(size) == pytest.approx(largest, rel=1e-2)


# --- moving average


def test_the_moving_average_is_its_formula_and_is_what_is_measured(tiny, tmp_path, monkeypatch):
    seen = []
    original = Recorder.on_train_batch_end

    def noting(self, trainer, module, *arguments):
        seen.append({name: value.clone() for name, value in module.model.state_dict().items()})
        original(self, trainer, module, *arguments)

    monkeypatch.setattr(Recorder, "on_train_batch_end", noting)
    tiny |= {"ema": {"decay": 0.7, "start": 1}, "iters": 4, "eval_interval": 4}
    run = train(make_config(tiny), tmp_path / "run")
    best = load_file(run / "checkpoints" / "best.safetensors")
    for name, value in best.items():
        if not value.is_floating_point():
            continue
        expected = seen[1][name]
        for later in seen[2:]:
            expected = 0.7 * expected + 0.3 * later[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        assert name.endswith("running_var") or not torch.equal(value, seen[-1][name])
    assert evaluate(run)["miou"] == json.loads((run / "summary.json").read_text())["best"]["miou"]


# --- frozen parts and groups


def test_frozen_parts_stay_to_the_last_running_mean(tiny, tmp_path):
    config = make_config(tiny | {"freeze": ["^encoder"], "optimizer": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.5}})
    experiment = resolve(config)
    seed_everything(0)
    before = {name: value.clone() for name, value in experiment.build_model().state_dict().items()}
    after = weights(train(config, tmp_path / "run"))
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved
    assert not [name for name in moved if name.startswith("encoder")]


def test_groups_have_their_own_rates_and_decay(tiny):
    groups = [{"match": "^head", "lr_mult": 10}, {"kind": "norm_and_bias", "weight_decay": 0}, {"match": "decoder", "lr_mult": 0}]
    tiny |= {"param_groups": groups, "optimizer": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1}}
    tiny["lr_scheduler"] = {"type": "Poly", "power": 1.0, "end_lr": 0.002}
    experiment = resolve(make_config(tiny))
    model = experiment.build_model()
    made = SegmentationModule(model, experiment.classes, experiment.build_loss(), experiment.config).configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    members = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0, 0.1]
    assert members[1] == ["head.weight", "head.bias"]
    assert all(model.get_parameter(name).dim() <= 1 for name in members[2])
    assert all(name.startswith("decoder") for name in members[3])
    assert all(name.startswith("encoder") for name in members[0])
    assert sorted(name for group in members for name in group) == sorted(names.values())
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.002, 0.02, 0.002, 0])


def test_the_rate_in_the_rows_is_that_of_the_schedule(tiny, tmp_path):
    run = train(make_config(tiny | {"param_groups": [{"match": ".", "lr_mult": 0.5}]}), tmp_path / "run")
    assert rows(run, "train")[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("settings", "key_path", "parts"),
    [
        ({"freeze": ["encodr"]}, "freeze[0]", ["'encodr' matches no trained parameter", "did you mean 'encoder'?"]),
        ({"freeze": ["."]}, "freeze", ["freezes all", "nothing is left"]),
        ({"freeze": ["("]}, "freeze", ["'(' is no regular expression"]),
        ({"param_groups": [{"match": "haed"}]}, "param_groups[0].match", ["begin with encoder, decoder, head", "'head'"]),
        ({"param_groups": [{"lr_mult": 2}]}, "param_groups[0]", ["match (a regular expression) or kind"]),
        ({"param_groups": [{"match": "*"}]}, "param_groups[0].match", ["no regular expression"]),
        ({"param_groups": [{"mach": "head"}]}, "param_groups[0].mach", ["unknown key 'mach'", "'match'"]),
        ({"clip_grad": {}}, "clip_grad", ["exactly one of max_norm and max_value"]),
        ({"clip_grad": {"max_norm": -1}}, "clip_grad.max_norm", ["greater than 0, got -1"]),
        ({"ema": {"decay": 1.0}}, "ema.decay", ["less than 1"]),
        ({"early_stop": {"monitor": "mIoU"}}, "early_stop.monitor", ["'miou'", "got 'mIoU'"]),
        ({"accumulate": True}, "accumulate", ["whole number"]),
        ({"loggers": [{"type": "TensorBordLogger"}]}, "loggers[0].type", ["'TensorBoardLogger'"]),
        ({"loggers": [{"type": "TensorBoardLogger", "flush_sec": 3}]}, "loggers[0].flush_sec", ["'flush_secs'"]),
    ],
)
def test_what_is_wrong_is_found_before_training(tiny, settings, key_path, parts):
    with pytest.raises(ConfigError) as caught:
        resolve(make_config(tiny | settings, file="tiny.yml"))
    message = str(caught.value)
    assert message.startswith(f"tiny.yml: {key_path}: ")
    for part in parts:
        assert part in message


def test_what_needs_a_gpu_says_so(tiny):
    for settings, message in [
        ({"precision": "fp16"}, "precision: fp16 needs a GPU; on a CPU bf16"),
        ({"sync_batchnorm": True}, "sync_batchnorm: torch.nn.SyncBatchNorm needs GPUs"),
    ]:
        with pytest.raises(ConfigError, match=message):
            resolve(make_config(tiny | settings))


# --- precision


@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_and_their_resizing_are_in_single_precision(plain, tmp_path, monkeypatch, accumulate):
    seen = []
    original = LOSSES["DiceLoss"].forward

    def noting(self, logits, *arguments):
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
        return original(self, logits, *arguments)

    monkeypatch.setattr(LOSSES["DiceLoss"], "forward", noting)
    computed = []
    monkeypatch.setattr(Plain, "forward", note_dtype(Plain.forward, computed))
    train(make_config(plain | {"precision": "bf16", "iters": 1, "accumulate": accumulate}), tmp_path / "run")
    assert set(seen[2:]) == {(torch.float32, False)}  # the first calls are the trial before training
    assert torch.bfloat16 in computed


def note_dtype(forward, seen):
    def noting(self, image):
        outputs = forward(self, image)
        seen.append(outputs[0].dtype)
        return outputs

    return noting


# --- early stop


def test_early_stop_ends_a_run_that_does_not_improve_and_survives_a_kill(tiny, tmp_path, capfd):
    tiny |= {"iters": 40, "eval_interval": 1, "optimizer": {"type": "SGD", "lr": 1e-9}, "early_stop": {"patience": 3}}
    run = train(make_config(tiny), tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["stopped_early"] is True
    scores = [row["miou"] for row in rows(run, "val")]
    assert summary["steps"] == len(scores) < 40
    assert max(scores[:-3]) >= max(scores[-3:])
    assert "the evaluations no longer improve (early_stop)" in capfd.readouterr().err
    # killed behind its last evaluation: it must not go on
    before = (run / "metrics.jsonl").read_bytes()
    (run / "summary.json").unlink()
    resume(run)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert json.loads((run / "summary.json").read_text())["steps"] == summary["steps"]
    # killed before: it counts on
    (run / "summary.json").unlink()
    list_checkpoints(run / "checkpoints")[0].unlink()
    resume(run)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_early_stop_waits_for_the_last_phase(tiny, tmp_path):
    phases = [{"start": 6, "types": [{"type": "CrossEntropyLoss"}]}]
    tiny |= {"iters": 12, "eval_interval": 1, "optimizer": {"type": "SGD", "lr": 1e-9}, "loss": tiny["loss"] | {"phases": phases}}
    run = train(make_config(tiny | {"early_stop": {"patience": 1, "monitor": "loss", "min_delta": 0.1}}), tmp_path / "run")
    assert json.loads((run / "summary.json").read_text())["steps"] == 8


# --- loggers


def test_tensorboard_gets_every_number_and_a_resumed_run_writes_none_twice(tiny, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(make_config(tiny | {"loggers": [{"type": "TensorBoardLogger", "flush_secs": 1}]}), tmp_path / "run")

    def scalars(name):
        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]

    assert [(row["step"], row["terms"]["CrossEntropyLoss"]) for row in rows(run, "train")] == scalars("train/CrossEntropyLoss")
    assert [(row["step"], row["iou"][1]) for row in rows(run, "val")] == scalars("val/IoU road")
    assert [step for step, _ in scalars("lr")] == [1, 2, 3]
    (run / "summary.json").unlink()
    list_checkpoints(run / "checkpoints")[0].unlink()
    resume(run)
    assert [step for step, _ in scalars("lr")] == [1, 2, 3]


@pytest.mark.parametrize(("kind", "package"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_a_logger_whose_package_is_missing(tiny, kind, package):
    if package in sys.modules:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=rf"^loggers\[0\].type: {kind} needs the package {package}, .*: pip install {package}"):
        resolve(make_config(tiny | {"loggers": [{"type": kind}]}))


def test_a_logger_of_ones_own(tiny, tmp_path, monkeypatch):
    from lightning.pytorch.loggers import CSVLogger

    module = types.ModuleType("mine")
    heard = []

    class Listener(CSVLogger):
        def log_metrics(self, metrics, step=None):
            heard.append((step, metrics))

    Listener.__module__ = "mine"
    module.Listener = Listener
    monkeypatch.setitem(sys.modules, "mine", module)
    config = make_config(tiny | {"loggers": [{"type": "mine.Listener", "save_dir": str(tmp_path)}]})
    run = train(config, tmp_path / "run")
    assert [step for step, _ in heard] == [row["step"] for split in ("train", "val") for row in rows(run, split)] or len(heard) == 5
    assert {name for _, metrics in heard for name in metrics} >= {"train/loss", "val/loss", "val/miou", "val/IoU ground"}


def test_flat_metrics_leave_out_what_is_not_defined():
    row = {"step": 3, "split": "val", "loss": 0.5, "miou": 0.25, "iou": [None, 0.25], "phase": 1}
    assert flat_metrics(row, ("a", "b")) == {"val/loss": 0.5, "val/miou": 0.25, "val/IoU b": 0.25, "val/phase": 1.0}


def test_light_unet_is_not_changed_by_measuring_only():
    model = LightUNet(2, (4,))
    assert SegmentationModule(model, None).evaluated is model
