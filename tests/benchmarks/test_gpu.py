"""The GPU's parts run at small sizes on whatever there is, and the promises are judged by what they wrote."""

import json

import pytest
import torch

from benchmarks import gpu


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    for part in ("check", "speed", "sizes", "step", "targets"):
        assert gpu.main([part, "--tiny", "--out", str(out)]) == 0
    return out


def read(folder, part):
    return json.loads((folder / f"gpu_{part}.json").read_text(encoding="utf-8"))


def test_every_part_writes_what_it_found(folder):
    assert all(g["error"] is None and g["lines"] for g in read(folder, "check")["gate"].values())
    speed = read(folder, "speed")
    assert {tuple(r["shape"]) for r in speed["rows"]} == set(gpu.TINY_SHAPES)
    assert {r["peer"] for r in speed["peers"]} == set(gpu.PEERS)
    assert all(r["skipped"] or r["ratio"]["median"] > 0 for r in speed["peers"])
    assert all(r["share"] > 0 for r in read(folder, "step")["rows"])
    assert read(folder, "sizes")["flatness"] >= 1


def test_promises_are_judged(folder):
    found = read(folder, "targets")
    assert found["of"] == len(found["rows"]) > 0
    for row in found["rows"]:
        assert row["met"] == (row["measured"] <= row["limit"] if row["at_most"] else row["measured"] >= row["limit"])


def test_parts_that_are_missing_are_named(tmp_path, capsys):
    assert gpu.main(["targets", "--out", str(tmp_path)]) == 2
    assert "lacks the results of speed and sizes; run them first" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_only_small_sizes(tmp_path, capsys):
    assert gpu.main(["speed", "--out", str(tmp_path)]) == 2
    assert "there is no CUDA device; --tiny runs the same code" in capsys.readouterr().err
