"""One process in a folder; best/ is whole at every moment, for whoever reads and whenever a process is killed."""

import os
import subprocess
import sys
import threading

import pytest

from qingformer.errors import CheckpointError
from qingformer.training import RunInUseError, clear_run, holds_run, locked, read_whole, replace_folder, whole_folder
from qingformer.training.kept import WRITTEN, KeptFolder

HOLDER = """
import sys, time
from qingformer.training.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_by_number_until_the_first_is_dead(held):
    folder, process = held
    with pytest.raises(RunInUseError, match=f"run: in use by process {process.pid};"), locked(folder):
        pass
    process.kill()
    process.wait()
    assert list(folder.iterdir()), "a killed process leaves its file"
    with locked(folder):
        pass
    assert not folder.exists() or not list(folder.iterdir())


def test_a_thread_may_hold_a_folder_twice_and_another_may_not(tmp_path):
    refused = []

    def other():
        with pytest.raises(RunInUseError, match="another thread"), locked(tmp_path):
            pass
        refused.append(True)

    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_to_which_nothing_was_written_is_gone_again(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "run.json").write_text("{}")
    assert (tmp_path / "a" / "b" / "run.json").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_neither_holds_nor_releases_the_lock(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with locked(tmp_path):
                    pass
            except RunInUseError:
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / ".run.lock").read_text() == f"{os.getpid()}\n"


def fill(text):
    def write(folder):
        (folder / "one").write_text(text)
        (folder / "two").write_text(text)
        (folder / "part").mkdir()
        (folder / "part" / text).write_text(text)

    return write


def content(folder):
    return (folder / "one").read_text(), (folder / "two").read_text()


def others(folder):
    """Files that somebody put into `folder`, one of them in a folder of ours."""
    for name in ("notes.txt", "mine/deep/log.txt", "part/more.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return lambda there: all((there / n).read_text() == n for n in ("notes.txt", "mine/deep/log.txt", "part/more.txt"))


class Killed(BaseException):
    """No handler for errors sees it, as none sees SIGKILL."""


@pytest.mark.parametrize("step", range(18))
@pytest.mark.parametrize("committed", [False, True])
def test_killed_anywhere_the_folder_is_that_of_the_epoch_that_the_state_knows(tmp_path, monkeypatch, step, committed):
    target = tmp_path / "best"
    replace_folder(target, fill("old"))
    kept, left, survive = KeptFolder(target), [step], others(target)

    def counted(real):
        def call(*arguments, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return call

    written = published = False
    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "rmdir", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            kept.write(3, fill("new"))
            written = True
            if committed:
                kept.publish(3)
                published = True
        except Killed:
            pass
    assert content(whole_folder(target)) in (("old", "old"), ("new", "new")), "whoever reads finds a whole one"
    kept.recover(3 if committed and written else 0)
    wanted = "new" if committed and written else "old"
    assert content(target) == (wanted, wanted)
    assert survive(target)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert step or not published


def test_files_of_an_earlier_epoch_go_and_those_of_others_stay(tmp_path):
    target = tmp_path / "best"
    replace_folder(target, fill("old"))
    survive = others(target)
    for text in ("new", "newer"):
        replace_folder(target, fill(text))
        assert survive(target)
        assert {path.name for path in (target / "part").iterdir()} == {text, "more.txt"}
    (target / WRITTEN).unlink()  # as an earlier version left it
    replace_folder(target, fill("newest"))
    assert survive(target)
    assert content(target) == ("newest", "newest")


def test_a_folder_replaced_while_it_is_read_is_read_again(tmp_path):
    target = tmp_path / "best"
    replace_folder(target, fill("old"))
    reads = []

    def read(folder):
        first = (folder / "one").read_text()
        if not reads:
            replace_folder(target, fill("new"))
        reads.append(first)
        return first, (folder / "two").read_text()

    assert read_whole(lambda: whole_folder(target), read) == ("new", "new")
    assert reads == ["old", "new"]


def test_an_error_of_a_folder_that_stays_is_passed_on_at_once(tmp_path):
    calls = []

    def read(folder):
        calls.append(folder)
        raise CheckpointError("damaged")

    with pytest.raises(CheckpointError, match="damaged"):
        read_whole(lambda: tmp_path, read)
    assert len(calls) == 1


def test_clearing_a_run_leaves_other_files_wherever_they_are(tmp_path):
    state = tmp_path / "state" / "epoch-00001-batch-000000000"
    state.mkdir(parents=True)
    replace_folder(tmp_path / "best", fill("old"))
    for name in ("state.json", "hint.txt", "../epoch-1-batch-9"):
        (state / name).write_text("mine")
    survive = others(tmp_path / "best")
    (tmp_path / "notes.txt").write_text("mine")
    assert holds_run(tmp_path)
    clear_run(tmp_path)
    assert not holds_run(tmp_path)
    assert survive(tmp_path / "best")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "notes.txt", "hint.txt", "epoch-1-batch-9", "log.txt", "more.txt", WRITTEN,
    }  # fmt: skip


def test_clearing_a_run_in_which_nobody_left_anything_leaves_nothing(tmp_path):
    replace_folder(tmp_path / "best", fill("old"))
    (tmp_path / "state" / "epoch-00001-batch-000000000").mkdir(parents=True)
    clear_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
