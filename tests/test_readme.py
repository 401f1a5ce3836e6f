"""The ten lines of the README run as they stand on the sample; both languages have the same code and the same links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "README.zh.md")


def page(name):
    return (ROOT / name).read_text("utf-8")


def first_snippet(name):
    return re.search(r"^```python\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)[1]


def test_both_languages_begin_with_the_same_ten_lines():
    english, chinese = (re.sub(r" *#.*", "", first_snippet(name)) for name in PAGES)
    assert english == chinese
    assert len([line for line in english.splitlines() if line]) <= 10


@pytest.mark.parametrize("name", PAGES)
def test_ratios_have_a_command_that_exists(name):
    rows = re.findall(r"^\| .* \| \*\*([\d.]+)\*\* \| `python (?:-m )?(\S+) .*` \|$", page(name), re.MULTILINE)
    assert len(rows) == 3
    for _, script in rows:
        assert (ROOT / (script if script.endswith(".py") else script.replace(".", "/") + ".py")).is_file()


@pytest.mark.parametrize(
    "name", [*PAGES, "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_to_files(name):
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page(name)):
        assert (folder / target).exists(), target


@pytest.mark.slow
def test_the_ten_lines_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    exec(compile(first_snippet("README.md"), "README.md", "exec"), {})
    assert float(re.search(r"accuracy ([\d.]+)", capsys.readouterr().out)[1]) > 0.7
    assert (tmp_path / "my-model").is_dir()


def quotations():
    """The code that CONTRIBUTING.md quotes, with the file that it names."""
    fences = re.findall(r"^ *```python (\S+)\n(.*?)^ *```$", page("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert len(fences) > 5
    return fences


@pytest.mark.parametrize(("path", "quoted"), quotations())
def test_contributing_quotes_the_code_as_it_is(path, quoted):
    lines = {line.strip() for line in page(path).splitlines()}
    assert not [line for line in quoted.splitlines() if line.strip() and line.strip() not in lines]


def test_contributing_names_what_exists():
    for path in re.findall(r"(?:qingformer|tests|scripts|examples|docs)/[\w/]+\.(?:py|md)", page("CONTRIBUTING.md")):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/architecture.zh.md"])
def test_architecture_names_modules_that_exist(name):
    paths = re.findall(r"`([a-z_]+/(?:[\w/]+\.py)?)`", page(name))
    assert len(paths) > 20
    folders = (ROOT / "qingformer", ROOT / "qingformer" / "tasks", ROOT)
    runs = {"best/", "state/"}  # folders of a run
    assert not [path for path in paths if path not in runs and not any((folder / path).exists() for folder in folders)]
