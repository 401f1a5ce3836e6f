"""What a dead process left is cleared, what a living one writes is not."""

import os
import subprocess
import sys

import pytest

from qingformer.files import atomic_directory, atomic_file
from qingformer.leftovers import hold, release, remove_leftovers, temporary_item, wait_for

DIES = """
import os, sys
from pathlib import Path
from qingformer.leftovers import temporary_item
items = [temporary_item(Path(sys.argv[1]), "model", directory=directory) for directory in (True, False)]
for item in items:
    item.__enter__()
os._exit(9)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_items_of_a_dead_process_go_and_those_of_a_living_one_stay(tmp_path):
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert len(names(tmp_path)) == 2
    with temporary_item(tmp_path, "model", directory=True) as mine, temporary_item(tmp_path, "x", directory=False):
        assert len(remove_leftovers(tmp_path)) == 2
        assert len(names(tmp_path)) == 2
        assert mine.is_dir()
    assert names(tmp_path) == []


def test_only_items_of_the_name_and_shape_go(tmp_path):
    theirs = [".model.part", "model.abcdefgh.part", ".model.abcdefgh.tmp", ".other.abcdefgh.part", ".model.abc.part"]
    for name in [*theirs, ".model.abcdefgh.part"]:
        (tmp_path / name).write_text("x")
    assert [path.name for path in remove_leftovers(tmp_path, "model")] == [".model.abcdefgh.part"]
    assert names(tmp_path) == sorted(theirs)


@pytest.mark.parametrize("make", [atomic_file, atomic_directory])
def test_the_next_save_clears_up(tmp_path, make):
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    with make(tmp_path / "model") as temporary:
        (temporary / "a" if temporary.is_dir() else temporary).write_text("new")
    assert names(tmp_path) == ["model"]


def test_a_replaced_folder_whose_successor_never_came_is_put_back(tmp_path):
    old = tmp_path / ".model.abcdefgh.old" / "model"
    old.mkdir(parents=True)
    (old / "weights").write_text("old")
    remove_leftovers(tmp_path, "model")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_a_lock_is_exclusive_and_ends_with_its_holder(tmp_path):
    held = hold(tmp_path)
    with pytest.raises(BlockingIOError):
        hold(tmp_path)
    with pytest.raises(TimeoutError, match="another process"):
        wait_for(tmp_path, 0.05)
    release(held)
    release(wait_for(tmp_path, 0.05))
    with pytest.raises(FileNotFoundError):
        hold(tmp_path / "never")


def test_pipes_and_links_are_written_through(tmp_path):
    read, write = os.pipe()
    with atomic_file(f"/dev/fd/{write}") as path:
        path.write_text("through")
    os.close(write)
    assert os.read(read, 100) == b"through"
    os.close(read)
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with atomic_directory(tmp_path / "link") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert names(real) == ["a"]
