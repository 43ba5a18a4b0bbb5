import pytest

from evenseg.cli.options import spread


@pytest.mark.parametrize(
    ("option", "given", "spread_out"),
    [
        ("--seeds", "c.yml --seeds 0 1 2", "c.yml --seeds 0 --seeds 1 --seeds 2"),
        ("--seeds", "--seeds 0 1 c.yml", "--seeds 0 --seeds 1 c.yml"),
        ("--seeds", "c.yml --seeds 0 --seeds 1", "c.yml --seeds 0 --seeds 1"),
        ("--seeds", "c.yml --seeds 4 5 --set iters=2 7", "c.yml --seeds 4 --seeds 5 --set iters=2 7"),
        ("--seeds", "c.yml", "c.yml"),
        ("--scales", "RUN --scales 0.5 1 1.5 --flip", "RUN --scales 0.5 --scales 1 --scales 1.5 --flip"),
        ("--scales", "RUN --scales 1 a.png 2", "RUN --scales 1 a.png 2"),
        ("--scales", "RUN --window 8 8", "RUN --window 8 8"),
    ],
)
def test_several_numbers_behind_one_option(option, given, spread_out):
    assert spread(given.split(), option) == spread_out.split()
