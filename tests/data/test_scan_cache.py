"""Check results kept on disk: what counts as unchanged, what is read again, and what a damaged or shared file does."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from evenseg.data import FolderDataset, check, check_data, scan_cache
from evenseg.data.diagnosis import scan
from evenseg.data.scan_cache import ScanCache, cache_folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVENSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pictures(make_folder):
    """Three pairs, written well before now: files that have just changed are never kept."""
    masks = {name: np.array([[0, 1, 1, 255]], np.uint8) for name in ("a", "b", "c")}
    root = make_folder({"train": masks})
    age(root)
    return root


def age(root, seconds=100):
    past = time.time() - seconds
    for file in root.rglob("*.*"):
        os.utime(file, (past, past))


def start(dataset, monkeypatch):
    """Checks a data set as a fresh process does; returns the facts and the names of the masks that were read."""
    monkeypatch.setattr(check, "_CHECKED", {})
    read, plain = [], dataset.read_stored_mask
    monkeypatch.setattr(dataset, "read_stored_mask", lambda index: read.append(dataset.name(index)) or plain(index))
    return check_data(dataset), sorted(read)


def rewrite(root, name, values):
    file = root / "masks" / "train" / f"{name}.png"
    Image.fromarray(np.array([values], np.uint8)).save(file)


def test_the_second_start_reads_no_mask_and_finds_the_same(pictures, cache, monkeypatch):
    first, read = start(FolderDataset(str(pictures)), monkeypatch)
    assert read == ["a", "b", "c"]
    assert len(list(cache.rglob("*.json"))) == 1
    again, read = start(FolderDataset(str(pictures)), monkeypatch)
    assert read == []
    assert (again.counts, again.sizes) == (first.counts, first.sizes)
    assert (again.class_counts == first.class_counts).all()
    assert not [file for file in pictures.rglob("*") if "cache" in file.name or file.suffix == ".tmp"]


def test_a_changed_mask_alone_is_read_again(pictures, cache, monkeypatch):
    start(FolderDataset(str(pictures)), monkeypatch)
    rewrite(pictures, "b", [0, 0, 0, 1])
    facts, read = start(FolderDataset(str(pictures)), monkeypatch)
    assert read == ["b"]
    assert facts.class_counts.tolist() == [[1, 2], [3, 1], [1, 2]]
    rewrite(pictures, "c", [0, 0, 0, 9])
    with pytest.raises(ValueError, match="value 9"):
        start(FolderDataset(str(pictures)), monkeypatch)


def test_a_changed_image_is_read_again(pictures, cache, monkeypatch):
    start(FolderDataset(str(pictures)), monkeypatch)
    Image.new("RGB", (9, 9)).save(pictures / "images" / "train" / "a.jpg")
    with pytest.raises(ValueError, match="differ in size from their image"):
        start(FolderDataset(str(pictures)), monkeypatch)


def test_a_file_that_changed_a_moment_ago_is_not_kept(pictures, cache, monkeypatch):
    # it may change once more within the same tick of the clock, at the same size
    rewrite(pictures, "b", [0, 0, 0, 1])
    start(FolderDataset(str(pictures)), monkeypatch)
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == ["b"]


def test_other_label_rules_are_another_entry(pictures, cache, monkeypatch):
    start(FolderDataset(str(pictures)), monkeypatch)
    facts, read = start(FolderDataset(str(pictures), label_map={1: "ignore"}), monkeypatch)
    assert read == ["a", "b", "c"]
    assert facts.counts == {0: 3, 255: 9}
    facts, read = start(FolderDataset(str(pictures), threshold=255), monkeypatch)
    assert read == ["a", "b", "c"]
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == []


def test_pairs_with_a_problem_are_looked_at_anew(pictures, cache, monkeypatch):
    rewrite(pictures, "b", [0, 0, 0, 9])
    age(pictures)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"1 of 3 masks hold values outside the classes.*b \(value 9: 1 pixel\)"):
            start(FolderDataset(str(pictures)), monkeypatch)
    (pictures / "images" / "train" / "b.jpg").write_bytes(b"no picture")
    age(pictures)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"b\.jpg cannot be read"):
            start(FolderDataset(str(pictures)), monkeypatch)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b"[1]", b'{"stamp": 3}', b'[{"stamp": [1]}]', b'[{"stamp": {"a": []}}]'],
)
def test_a_damaged_file_is_ignored_and_written_anew(pictures, cache, monkeypatch, content):
    first, _ = start(FolderDataset(str(pictures)), monkeypatch)
    [file] = cache.rglob("*.json")
    file.write_bytes(content)
    again, read = start(FolderDataset(str(pictures)), monkeypatch)
    assert read == ["a", "b", "c"]
    assert again.counts == first.counts
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == []


@pytest.mark.parametrize("broken", [{"labels": None}, {"labels": [[0]]}, {"mask_size": [1]}, {"image_size": 7}])
def test_a_damaged_entry_is_ignored(pictures, cache, monkeypatch, broken):
    start(FolderDataset(str(pictures)), monkeypatch)
    [file] = cache.rglob("*.json")
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([entry | broken for entry in entries]))
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == ["a", "b", "c"]


def test_a_killed_writer_leaves_the_old_file(pictures, cache, monkeypatch):
    start(FolderDataset(str(pictures)), monkeypatch)
    rewrite(pictures, "b", [0, 0, 1, 1])
    age(pictures, 50)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scan_cache.json, "dump", killed)
        with pytest.raises(KeyboardInterrupt):
            start(FolderDataset(str(pictures)), monkeypatch)
    assert [file.suffix for file in (cache / "masks").iterdir()] == [".json"]
    start(FolderDataset(str(pictures)), monkeypatch)
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == []


def test_starts_at_the_same_time_leave_a_whole_file(pictures, cache, monkeypatch):
    dataset = FolderDataset(str(pictures))
    records = scan(dataset, thorough=False).records

    def store_and_load(_):
        ScanCache(dataset).store(records)
        return len(ScanCache(dataset).load())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(store_and_load, range(200))) == {3}
    assert [file.suffix for file in (cache / "masks").iterdir()] == [".json"]
    assert start(FolderDataset(str(pictures)), monkeypatch)[1] == []


def test_a_folder_that_cannot_be_written_is_a_warning(pictures, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVENSEG_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept for the next start.*EVENSEG_CACHE"):
        facts, _ = start(FolderDataset(str(pictures)), monkeypatch)
    assert facts.counts == {0: 3, 1: 6, 255: 3}


class OwnFolder(FolderDataset):
    """A user's class, which may read files in a way of its own."""


def test_a_class_of_the_users_is_always_read(pictures, cache, monkeypatch):
    start(OwnFolder(str(pictures)), monkeypatch)
    assert start(OwnFolder(str(pictures)), monkeypatch)[1] == ["a", "b", "c"]
    assert ScanCache(OwnFolder(str(pictures))).file is None


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EVENSEG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "evenseg"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "evenseg"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "evenseg"
    monkeypatch.setenv("EVENSEG_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
