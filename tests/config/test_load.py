import subprocess
import sys

import pytest

from evenseg.config import ConfigError, dump_config, load_config, make_config


def test_reads_a_file_and_names_it(tiny, write_yaml):
    file = write_yaml(tiny)
    config = load_config(file)
    assert config.source == file
    assert config.iters == 3
    assert config.train_dataset.keywords == {"length": 5, "size": 32}
    assert [transform.type for transform in config.train_dataset.transforms] == ["RandomFlip", "Normalize"]
    assert config.loss == tiny["loss"]


def test_is_frozen(tiny):
    config = make_config(tiny)
    with pytest.raises(ValueError, match="frozen"):
        config.iters = 5


def test_dump_and_load_give_the_same_configuration(tiny, tiny_study, tmp_path):
    tiny["train_dataset"]["label_map"] = {255: 1, "*": "ignore"}
    tiny["model"]["weights_backbone"] = None
    for mapping in (dict(tiny, loss=tiny_study["losses"]["CE"], losses=None), tiny_study):
        file = tmp_path / "again.yml"
        file.write_text(dump_config(make_config(mapping)), encoding="utf-8")
        assert load_config(file).model_dump() == make_config(mapping).model_dump()
        assert load_config(file).model.keywords["weights_backbone"] is None


def test_numbers_without_a_point_are_numbers(tiny, write_yaml):
    file = write_yaml(tiny)
    file.write_text(file.read_text().replace("lr: 0.01", "lr: 1e-2"))
    assert load_config(file).optimizer.keywords["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("change", "key_path", "parts"),
    [
        ({"itres": 5}, "itres", ["unknown key 'itres'", "did you mean 'iters'?"]),
        ({"iters": 0}, "iters", ["greater than 0", "got 0"]),
        ({"iters": True}, "iters", ["whole number"]),
        ({"iters": 2.5}, "iters", ["got 2.5"]),
        ({"precision": "fp8"}, "precision", ["'fp32', 'bf16' or 'fp16'", "got 'fp8'"]),
        ({"losses": {"a": {}}}, "", ["exactly one of `loss` and `losses`", "got both"]),
        ({"loss": None}, "", ["exactly one of `loss` and `losses`", "got neither"]),
        ({"loss": None, "losses": {}}, "losses", ["names no loss"]),
        ({"loss": None, "losses": {"../up": {}}}, "losses", ["'../up' cannot name a folder"]),
        ({"model": {"tpye": "ENet"}}, "model.type", ["required key is missing", "'type' where you wrote 'tpye'"]),
        ({"optimizer": "SGD"}, "optimizer", ["got 'SGD'"]),
    ],
)
def test_wrong_values_name_file_key_and_remedy(tiny, write_yaml, change, key_path, parts):
    tiny.update(change)
    file = write_yaml(tiny)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    message = str(caught.value)
    assert caught.value.key_path == key_path
    assert message.startswith(f"{file}: {key_path}: " if key_path else f"{file}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_missing_key_with_a_near_miss(tiny, write_yaml):
    tiny["optimiser"] = tiny.pop("optimizer")
    with pytest.raises(ConfigError, match="did you mean 'optimizer' where you wrote 'optimiser'"):
        load_config(write_yaml(tiny))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iters: [1", "is no valid YAML"),
        ("- a\n- b\n", "top level must be a mapping"),
        ("iters: 1\niters: 2\n", "duplicate key iters"),
        ("iters: ${nowhere}\n", "nowhere"),
        ("iters: !!python/object/apply:os.getcwd []\n", "is no valid YAML"),
    ],
)
def test_broken_files(tmp_path, text, message):
    file = tmp_path / "broken.yml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yml: no such file"):
        load_config(tmp_path / "absent.yml")


def test_overrides_reach_lists_new_keywords_and_interpolations(tiny_study, write_yaml):
    tiny_study["val_dataset"]["length"] = "${train_dataset.length}"
    config = load_config(
        write_yaml(tiny_study),
        [
            "iters=7",
            "train_dataset.length=9",
            "train_dataset.transforms[0].vertical=0.25",
            "losses.CE+LovaszHinge.types[0].coef=[1, 2]",
            "lr_scheduler={type: Step, step_size: 3}",
            "optimizer.lr=1e-4",
            "output=runs/lr=0.1, wd=0",
            "train_dataset.label_map={255: 1}",
        ],
    )
    assert config.iters == 7
    assert config.val_dataset.keywords["length"] == 9
    assert config.train_dataset.transforms[0].keywords == {"vertical": 0.25}
    assert config.losses["CE+LovaszHinge"]["types"][0]["coef"] == [1, 2]
    assert config.lr_scheduler.keywords == {"step_size": 3}
    assert config.optimizer.keywords["lr"] == pytest.approx(1e-4)
    assert config.output == "runs/lr=0.1, wd=0"
    assert config.train_dataset.keywords["label_map"] == {255: 1}


def test_overrides_reach_names_with_dots(tiny_study, write_yaml):
    tiny_study["losses"]["CE+0.5Hinge"] = tiny_study["losses"].pop("CE+LovaszHinge")
    config = load_config(write_yaml(tiny_study), ["losses.CE+0.5Hinge.types[0].losses[1].num_bins=64"])
    assert config.losses["CE+0.5Hinge"]["types"][0]["losses"][1]["num_bins"] == 64


def test_overrides_reach_sections_that_the_file_leaves_out_where_all_in_them_has_a_default(tiny, write_yaml):
    assert load_config(write_yaml(tiny), ["evaluation.flip=true"]).evaluation.flip is True
    with pytest.raises(ConfigError, match=r"evaluation.flp: unknown key 'flp'.*did you mean 'flip'.*from --set"):
        load_config(write_yaml(tiny), ["evaluation.flp=true"])


def test_what_was_set_on_the_command_line_is_named_in_the_error(tiny, write_yaml):
    with pytest.raises(ConfigError, match=r"tiny.yml: iters: .*greater than 0, got 0 \(from --set\)"):
        load_config(write_yaml(tiny), ["iters=0"])


def test_a_section_set_as_a_whole_inherits_nothing(tiny, write_yaml, tmp_path):
    base = write_yaml(tiny)
    child = tmp_path / "child.yml"
    child.write_text(f"_base_: {base}\n")
    config = load_config(child, ["model={type: ENett}"])
    assert "(from --set)" in str(config.locate(ConfigError("unknown", key_path="model.type")))
    assert f"(inherited from {base})" in str(config.locate(ConfigError("unknown", key_path="optimizer.type")))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("itres=5", "itres: --set: unknown key 'itres'.*did you mean 'iters'"),
        ("optimzer.lr=5", "optimzer: --set: unknown key.*did you mean 'optimizer'"),
        ("loss.typs[0].x=5", "loss.typs: --set: unknown key 'typs'.*did you mean 'types'"),
        ("loss.types[3].x=5", r"loss.types\[3\]: --set: no such entry; the list has 1"),
        ("iters.x=5", "iters is a single value"),
        ("test_dataset.root=5", "test_dataset: --set: the file has no section 'test_dataset'"),
        ("iters", "--set needs key.path=value, got 'iters'"),
        ("iters=[1", "no valid YAML"),
    ],
)
def test_overrides_with_unknown_paths_are_refused(tiny, write_yaml, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_yaml(tiny), [override])


def test_config_loads_no_torch_and_no_omegaconf_before_a_file_is_read():
    code = "import sys, evenseg.config; assert not {'torch', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_null_key_counts_as_left_out(tiny, write_yaml):
    tiny |= {"lr_scheduler": None, "eval_interval": None, "losses": None}
    config = load_config(write_yaml(tiny))
    assert config.lr_scheduler.type == "Constant"
    assert config.evaluate_every == config.iters


def test_a_configuration_of_another_version_says_so(tiny, tmp_path):
    text = dump_config(make_config(tiny))
    file = tmp_path / "config.yaml"
    file.write_text(text.replace(text.splitlines()[0], "# written by evenseg 0.0.1") + "momentum: 3\n")
    with pytest.raises(ConfigError, match=r"unknown key 'momentum'.*\(the file was written by evenseg 0.0.1, this is "):
        load_config(file)
    file.write_text(text + "momentum: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert "written by" not in str(caught.value)
