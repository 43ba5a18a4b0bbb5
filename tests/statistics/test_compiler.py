"""Compiled kernels on disk are used only as long as no file that kernels are made of has changed."""

import pytest

pytest.importorskip("numba")

from evenseg.statistics.numba import compiler, margin, ranking, softmax, softmax_backward

KERNELS = [softmax.forward, softmax_backward.backward, margin.forward, margin.backward, ranking.list_softmax]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.py_func.__module__}.{k.__name__}")
def test_cache_is_stamped_with_all_sources(kernel):
    assert kernel._cache._cache_file._source_stamp == compiler.source_digest()


def test_other_sources_mean_another_index(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def twice(x):
        return 2 * x

    first = compiler.kernel(twice)
    first(1.0)
    assert first.stats.cache_misses
    again = compiler.kernel(twice)
    again(1.0)
    assert again.stats.cache_hits
    monkeypatch.setattr(compiler, "source_digest", lambda: "changed")
    changed = compiler.kernel(twice)
    changed(1.0)
    assert changed.stats.cache_misses
    assert not changed.stats.cache_hits
