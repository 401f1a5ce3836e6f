"""Folders that others share: what is written is whole, what is not ours stays, a kill at any moment loses nothing."""

import os
import stat
import threading

import pytest

from qingformer.errors import CheckpointError, TokenizerError
from qingformer.folders import COMPLETE, finish_update, updated_directory


class Killed(BaseException):
    """As a kill would do, but the test lives on."""


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {name: (folder / name).read_text() for name in names(folder)}


def save(folder, text, files=("config", "inner/weights"), superseded=lambda folder: ()):
    with updated_directory(folder, superseded) as stage:
        assert names(stage) == []
        for name in files:
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(text)


def test_others_files_stay_and_ours_are_replaced(tmp_path):
    target = tmp_path / "deep" / "model"
    save(target, "first", ("config", "old"))
    (target / "notes.txt").write_text("mine")
    (target / "inner" / "more").mkdir(parents=True)
    (target / "inner" / "more" / "data").write_text("mine")
    save(target, "second", superseded=lambda folder: [name for name in ("old", "config") if (folder / name).exists()])
    assert contents(target) == {
        "config": "second",
        "inner/weights": "second",
        "notes.txt": "mine",
        "inner/more/data": "mine",
    }
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_failure_while_writing_changes_nothing(tmp_path):
    target = tmp_path / "model"

    def fail():
        with updated_directory(target) as stage:
            (stage / "config").write_text("half")
            raise RuntimeError

    for expected in ({}, {"config": "first", "inner/weights": "first"}):
        with pytest.raises(RuntimeError):
            fail()
        assert contents(tmp_path / "model") == expected
        save(target, "first")
    assert os.listdir(tmp_path) == ["model"]
    assert sorted(os.listdir(target)) == ["config", "inner"]


@pytest.mark.parametrize("moment", range(7))
def test_a_kill_between_any_two_steps_leaves_the_old_or_the_new(tmp_path, monkeypatch, moment):
    target, steps = tmp_path / "model", []
    save(target, "old", ("config", "inner/weights", "stale"))

    def killing(name):
        original = getattr(os, name)

        def step(*arguments, **options):
            if len(steps) == moment:
                raise Killed
            steps.append(name)
            return original(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            patch.setattr(os, name, killing(name))
        try:
            save(target, "new", superseded=lambda folder: ["stale"])
        except Killed:
            patch.undo()
    finish_update(target)
    new = {"config": "new", "inner/weights": "new"}
    old = {**dict.fromkeys(new, "old"), "stale": "old"}
    visible = {name: text for name, text in contents(target).items() if not name.startswith(".")}
    assert visible == (new if "rename" in steps else old)
    assert not (target / COMPLETE).exists()


def test_the_next_save_finishes_an_interrupted_one_first(tmp_path):
    complete = tmp_path / COMPLETE
    complete.mkdir()
    (complete / "tokenizer").write_text("from before")
    save(tmp_path, "new", ("config",))
    assert contents(tmp_path) == {"config": "new", "tokenizer": "from before"}


def test_saves_at_once_follow_each_other(tmp_path):
    def many(text):
        for _ in range(10):
            save(tmp_path, text, ("a", "b", "c"))

    threads = [threading.Thread(target=many, args=(text,)) for text in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = contents(tmp_path)
    assert set(found) == {"a", "b", "c"}
    assert len(set(found.values())) == 1


def test_what_the_system_refuses_is_one_line_and_loses_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"file: cannot be written: is a file, expected a folder"):
        save(tmp_path / "file", "x")
    inside = tmp_path / "file" / "x"
    with pytest.raises(TokenizerError, match="cannot be written"), updated_directory(inside, error=TokenizerError):
        pass
    (tmp_path / "model" / "config").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="config is a folder there"):
        save(tmp_path / "model", "x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "inner").write_text("mine")
    with pytest.raises(CheckpointError, match="inner is a file there"):
        save(tmp_path / "other", "x")
    assert contents(tmp_path) == {"file": "mine", "other/inner": "mine"}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {"config": "new", "inner/weights": "new"}


def test_a_folder_from_elsewhere_moves_nothing_outside(tmp_path):
    (tmp_path / "precious").write_text("mine")
    complete = tmp_path / "model" / COMPLETE
    complete.mkdir(parents=True)
    (complete / ".removals.json").write_text('["../precious"]')
    with pytest.raises(CheckpointError, match="outside of the folder"):
        finish_update(tmp_path / "model")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_save_that_cannot_be_finished_says_so(tmp_path, monkeypatch):
    complete = tmp_path / COMPLETE
    complete.mkdir()
    (complete / "config").write_text("new")

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"a save was interrupted and cannot be finished \(Permission denied\)"):
        finish_update(tmp_path)


def test_modes_are_the_usual_ones(tmp_path):
    before = os.umask(0o022)
    try:
        for target in (tmp_path / "new", tmp_path):
            save(target, "x")
            assert stat.S_IMODE((target / "inner").stat().st_mode) == 0o755
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755
