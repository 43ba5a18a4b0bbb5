import inspect

import pytest

from evenseg.config import ConfigError, Section, check_keywords, look_up, nearest_name, unknown_name


def build(size: tuple[int, int], rate: float = 0.1, name: str | None = None):
    return size, rate, name


def test_values_are_converted_to_the_annotation():
    assert check_keywords(build, {"size": [3, 4], "rate": 1}) == {"size": (3, 4), "rate": 1.0}


def test_only_given_keywords_come_back():
    assert check_keywords(build, {"size": [1, 2]}) == {"size": (1, 2)}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"size": [1, 2], "rat": 1}, "part.rat: unknown key 'rat'; allowed: size, rate, name; did you mean 'rate'?"),
        ({}, "part.size: this required key is missing"),
        ({"size": [1, "two"]}, r"part.size\[1\]: .*got 'two'"),
        ({"size": [1, 2], "rate": "fast"}, "part.rate: .*got 'fast'"),
    ],
)
def test_wrong_keywords(keywords, message):
    with pytest.raises(ConfigError, match=message):
        check_keywords(build, keywords, key_path="part")


def test_injected_keywords_need_not_be_given():
    assert check_keywords(build, {"rate": 2.0}, injected={"size"}) == {"rate": 2.0}


def test_more_parameters_are_checked_too():
    def open_end(a: int, **keywords):
        return a, keywords

    more = {"depth": inspect.Parameter("depth", inspect.Parameter.KEYWORD_ONLY, annotation=int)}
    assert check_keywords(open_end, {"a": 1, "depth": "5"}, more=more) == {"a": 1, "depth": 5}
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        check_keywords(open_end, {"a": 1, "dept": 5}, more=more)


def test_look_up_names_the_nearest_type():
    with pytest.raises(
        ConfigError, match=r"model.type: unknown model type 'Enet'; allowed: ENet, SMP; did you mean 'ENet'"
    ):
        look_up({"ENet": 1, "SMP": 2}, Section(type="Enet"), "model", "model")


def test_nothing_near_gives_the_list_alone():
    assert nearest_name("zzz", ["ENet", "SMP"]) is None
    assert unknown_name("model", "zzz", ["ENet", "SMP"]) == "unknown model 'zzz'; allowed: ENet, SMP"


def test_a_long_list_begins_with_the_nearest_names_and_ends_with_their_number():
    names = [*(f"option_{letter}" for letter in "abcdefghij"), "learning_rate", "rate"]
    message = unknown_name("key", "learning_rat", names)
    assert message.startswith("unknown key 'learning_rat'; allowed: learning_rate, rate, option_")
    assert message.endswith(", ... (12 in all); did you mean 'learning_rate'?")
    assert message.count(",") == 8
    assert unknown_name("key", "zzz", names).endswith("... (12 in all)")
