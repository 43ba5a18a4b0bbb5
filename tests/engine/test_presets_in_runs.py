"""Other libraries' losses as the type of a loss in a configuration."""

import pytest

from evenseg.config import ConfigError, make_config
from evenseg.engine import check_signatures
from evenseg.engine.checks import cross_check
from evenseg.engine.train import loss_name

MIX = {"type": "MixedLoss", "losses": [{"type": "smp.dice", "smooth": 1.0}, {"type": "hrnet.cross_entropy"}], "coef": [1, 0.5]}


def test_a_preset_fits_like_any_other_loss(tiny):
    tiny["loss"] = {"types": [MIX], "coef": [1]}
    config = make_config(tiny)
    check_signatures(config)
    cross_check(config)
    assert loss_name(config) == "smp.dice+hrnet.cross_entropy"


@pytest.mark.parametrize(
    ("term", "where", "message"),
    [
        ({"type": "smp.dise"}, "loss.types[0].type", "unknown preset 'smp.dise'; did you mean 'smp.dice'?"),
        ({"type": "smp.dice", "smoth": 1.0}, "loss.types[0].smoth", "smp.dice has no keyword 'smoth'; did you mean 'smooth'?"),
        ({"type": "smp.dice", "class_weights": [1, 2, 3]}, "loss.types[0]", "has 3 entries, 2 are needed for 2 classes"),
    ],
)
def test_mistakes_in_a_preset_are_named(tiny, term, where, message):
    tiny["loss"] = {"types": [term], "coef": [1]}
    config = make_config(tiny)

    def check():
        check_signatures(config)
        cross_check(config)

    with pytest.raises(ConfigError) as error:
        check()
    assert where in str(error.value)
    assert message in str(error.value)
