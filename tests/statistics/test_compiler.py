"""Compiled kernels on disk are used only as long as no file that kernels are made of has changed."""

import pytest

pytest.importorskip("numba")

from evenseg.statistics.numba import compiler, margin, margin_backward, ranking, softmax, softmax_backward, stages

KERNELS = [
    softmax.forward, softmax_backward.backward, margin.forward, margin_backward.backward, stages.exponentials, ranking.list_softmax,
]  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.py_func.__module__}.{k.__name__}")
def test_cache_is_stamped_with_all_sources(kernel):
    assert kernel._cache._cache_file._source_stamp == compiler.source_digest()


def test_other_sources_mean_another_index(tmp_path, monkeypatch):
    source = tmp_path / "twice.py"
    source.write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    from twice import twice

    def compiled():
        function = compiler.kernel(twice)
        assert function(1.0) == 2.0
        return function.stats

    assert compiled().cache_misses
    assert compiled().cache_hits
    monkeypatch.setattr(compiler, "source_digest", lambda: "changed")
    assert not compiled().cache_hits


def test_compiling_is_told_once_and_only_where_the_cache_is_cold(tmp_path, monkeypatch):
    from evenseg import _notice

    (tmp_path / "thrice.py").write_text("def thrice(x):\n    return 3 * x\n\n\ndef other(x):\n    return 4 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import thrice

    told = []
    monkeypatch.setattr(_notice, "on_compiling", lambda: told.append(1))
    monkeypatch.setattr(_notice, "_told", False)
    compiler.kernel(thrice.thrice)(1.0)
    assert told == [], "no kernel of ours"
    thrice.thrice.__module__ = thrice.other.__module__ = "evenseg.made_up"
    compiler.kernel(thrice.thrice)(1.0)
    assert told == [], "read from the cache"
    compiler.kernel(thrice.other)(1.0)
    compiler.kernel(thrice.other)(1)
    assert told == [1]
