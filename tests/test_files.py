"""Files and directories are replaced as a whole or not at all."""

import errno
import json
import os

import pytest

from qingformer.errors import CheckpointError, ConfigError, DataError, QingFormerError, TokenizerError
from qingformer.files import atomic_directory, atomic_file, write_json
from qingformer.json_files import read_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


def test_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted():
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failure_of_the_rename_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(*arguments):
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"), atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_directory(target) as temporary:
            (temporary / content).write_text(content)
        assert names(target) == [content]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("existing", [False, True])
def test_failure_keeps_the_old_directory(tmp_path, existing):
    target = tmp_path / "model"
    if existing:
        target.mkdir()
        (target / "weights").write_text("old")

    def failing():
        with atomic_directory(target) as temporary:
            (temporary / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert names(tmp_path) == (["model"] if existing else [])
    assert not existing or (target / "weights").read_text() == "old"


def test_failure_of_the_swap_brings_the_old_directory_back(tmp_path, monkeypatch):
    monkeypatch.setattr("qingformer.files.exchange", lambda new, old: False)  # as where a system cannot
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    replace = os.replace

    def refuse_the_new(source, destination):
        if str(source).endswith(".part"):
            raise OSError(errno.ENOSPC, "full")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(OSError, match="full"), atomic_directory(target) as temporary:
        (temporary / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert [name for name in names(tmp_path) if name.endswith(".part")] == []


def test_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"名": [1, 2.5, None]})
    assert "名" in path.read_text("utf-8")
    assert read_json(path) == {"名": [1, 2.5, None]}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([1]).encode())
    assert read_json(path) == [1]


def test_unserialisable_json_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, object())
    assert read_json(path) == 1
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "match"), [(None, "no such file"), (b'{\n"a": 1,\n}', "line 3: not JSON"), (b'"\xd6\xd0"', "not UTF-8")]
)
def test_json_errors_name_file_and_line(tmp_path, content, match):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"a\.json.*{match}") as caught:
        read_json(path, ConfigError)
    assert "\n" not in str(caught.value)


def test_all_errors_are_one_family():
    for error in (CheckpointError, ConfigError, DataError, TokenizerError):
        assert issubclass(error, QingFormerError)
        assert issubclass(error, ValueError)


def test_saved_files_and_directories_have_the_usual_modes(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("x")
        with atomic_directory(tmp_path / "directory"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o755
