import pytest
import yaml

from evenseg.config import ConfigError, load_config


@pytest.fixture
def write(tmp_path):
    """Writes files (name -> mapping) below a folder and returns the last one's path."""

    def write(folders=None, **files):
        for name, content in ((folders or {}) | files).items():
            path = tmp_path / f"{name}.yml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


def test_mappings_merge_and_everything_else_is_replaced(tiny, write):
    child = {
        "_base_": "base.yml",
        "optimizer": {"lr": 0.5},
        "train_dataset": {"transforms": [{"type": "Normalize"}]},
        "iters": 9,
    }
    config = load_config(write(base=tiny, child=child))
    assert config.iters == 9
    assert (config.optimizer.type, config.optimizer.keywords) == ("AdamW", {"lr": 0.5})
    assert config.train_dataset.keywords == {"length": 5, "size": 32}
    assert [transform.type for transform in config.train_dataset.transforms] == ["Normalize"]
    assert config.source.name == "child.yml"


def test_paths_are_relative_to_the_file_that_names_them(tiny, write):
    file = write(
        {
            "_base_/data": {key: tiny.pop(key) for key in ("train_dataset", "val_dataset")},
            "_base_/all": tiny | {"_base_": "data.yml"},
            "tiny/child": {"_base_": "../_base_/all.yml", "seed": 4},
        }
    )
    assert load_config(file).seed == 4


def test_later_bases_lie_over_earlier_ones_and_a_shared_one_may_come_twice(tiny, write):
    first = {"_base_": "base.yml", "seed": 1, "iters": 11, "optimizer": {"lr": 0.3}}
    second = {"_base_": "base.yml", "seed": 2, "batch_size": 7}
    config = load_config(write(base=tiny, first=first, second=second, child={"_base_": ["first.yml", "second.yml"]}))
    # base is laid on again with the second, and with it its own iters
    assert (config.seed, config.batch_size, config.iters) == (2, 7, tiny["iters"])
    assert config.optimizer.keywords["lr"] == tiny["optimizer"]["lr"]


def test_delete_starts_a_mapping_anew(tiny, write):
    child = {"_base_": "base.yml", "optimizer": {"_delete_": True, "type": "SGD", "momentum": 0.9}}
    grandchild = {"_base_": "child.yml", "optimizer": {"lr": 0.2, "_delete_": False}}
    config = load_config(write(base=tiny, child=child, grandchild=grandchild))
    assert config.optimizer.keywords == {"momentum": 0.9, "lr": 0.2}


def test_null_drops_what_is_inherited(tiny_template, tiny_study, write):
    child = {"_base_": "base.yml", "loss": None, "losses": tiny_study["losses"], "lr_scheduler": None}
    config = load_config(write(base=tiny_template, child=child))
    assert config.loss is None
    assert config.lr_scheduler.type == "Constant"
    child = {"_base_": "base.yml", "losses": tiny_study["losses"]}
    with pytest.raises(ConfigError, match="got both; an inherited one is dropped with null"):
        load_config(write(base=tiny_template, child=child))


def test_interpolations_are_resolved_after_merging_and_overrides(tiny, write):
    tiny["val_dataset"]["size"] = "${train_dataset.size}"
    file = write(base=tiny, child={"_base_": "base.yml", "train_dataset": {"size": 48}})
    assert load_config(file).val_dataset.keywords["size"] == 48
    assert load_config(file, ["train_dataset.size=64"]).val_dataset.keywords["size"] == 64


def test_overrides_reach_inherited_keys_and_refuse_others(tiny, write):
    file = write(base=tiny, child={"_base_": "base.yml"})
    assert load_config(file, ["loss.types[0].label_smoothing=0.1"]).loss["types"][0]["label_smoothing"] == 0.1
    with pytest.raises(ConfigError, match="_base_: --set: unknown key '_base_'"):
        load_config(file, ["_base_=other.yml"])


@pytest.mark.parametrize(
    ("child", "key_path", "message"),
    [
        ({"_base_": "bse.yml"}, "_base_", "there is no file 'bse.yml'.*did you mean 'base.yml' there"),
        ({"_base_": ["base.yml", "no/where.yml"]}, "_base_[1]", "there is no file 'no/where.yml' .looked for .*where.yml"),
        ({"_base_": "child.yml"}, "_base_", "lead back to where they started: .*child.yml -> .*child.yml$"),
        ({"_base_": 3}, "_base_", "must be the path of a file or a list of them, got 3"),
        ({"_base_": [""]}, "_base_[0]", "must be the path of a file or a list of them, got ''"),
        ({"_base_": "base.yml", "optimizer": {"_delete_": "yes!"}}, "optimizer._delete_", "must be true or false"),
        (
            {"_base_": "base.yml", "loss": {"types": [{"type": "CrossEntropyLoss", "_delete_": True}]}},
            "loss.types[0]._delete_",
            "no meaning inside a list",
        ),
    ],
)
def test_what_is_wrong_with_bases_is_said_in_one_line(tiny, write, child, key_path, message):
    file = write(base=tiny, child=child)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert caught.value.key_path == key_path
    assert str(caught.value).startswith(f"{file}: {key_path}: ")
    assert "\n" not in str(caught.value)


def test_a_circle_over_several_files_names_the_way(write):
    file = write(a={"_base_": "b.yml"}, b={"_base_": "c.yml"}, c={"_base_": "a.yml"})
    with pytest.raises(ConfigError, match=r"b.yml: _base_: .*c.yml -> .*a.yml -> .*b.yml -> .*c.yml$"):
        load_config(file)


def test_an_error_inside_a_base_names_that_file(tmp_path, tiny, write):
    file = write(base=tiny, child={"_base_": "base.yml"})
    (tmp_path / "base.yml").write_text("iters: [1")
    with pytest.raises(ConfigError, match=r"^\S*base.yml: is no valid YAML"):
        load_config(file)


def test_errors_say_which_base_a_value_comes_from(tiny, write):
    from evenseg.engine import check_signatures

    tiny["iters"] = 0
    with pytest.raises(ConfigError, match=r"child.yml: iters: .* got 0 \(inherited from \S*base.yml\)"):
        load_config(write(base=tiny, child={"_base_": "base.yml"}))
    tiny["iters"] = 1
    tiny["optimizer"] = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    file = write(base=tiny, child={"_base_": "base.yml", "optimizer": {"type": "Adam"}})
    with pytest.raises(ConfigError) as caught:
        check_signatures(load_config(file))
    assert caught.value.key_path == "optimizer.momentum"
    assert str(caught.value).startswith(f"{file}: optimizer.momentum: unknown key 'momentum'")
    assert "inherited from" in str(caught.value)
    assert "`_delete_: true` in optimizer drops what it inherits" in str(caught.value)
