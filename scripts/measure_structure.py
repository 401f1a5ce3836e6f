"""Measure the structure of the package: sizes, documentation, comments, types, and the rules that the design sets.

    python scripts/measure_structure.py                           the working tree
    python scripts/measure_structure.py --git 84e335d --git HEAD  commits side by side, read from git without a checkout
    python scripts/measure_structure.py PATH --json               another folder that holds the package; figures as JSON

How things are counted:

- files and lines: every `.py` file of the package; lines of text, blank ones included.
- functions: `def` and `async def`, methods and nested functions included; length from the `def` line to the last
  line, docstring included.
- public functions: those whose name does not begin with an underscore, `@overload`s left out.
- comments: lines with a comment, alone or after code; directives to tools (`# noqa`, `# fmt:`, `# type:`) do not count.
- annotations: of parameters, return values and variables; one that mentions `Any` anywhere counts as `Any`.
- lines of code: lines with at least one token of code; docstrings, comments and blank lines do not count.
- attention, block and backbone: the three modules that a batch passes through, without the files split off from them.
"""

import argparse
import ast
import io
import json
import re
import statistics
import subprocess
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

PACKAGE = "qingformer"
DIRECTIVE = re.compile(r"#\s*(fmt|type|noqa|ruff|mypy|pragma)\b")
FORWARD_PATH = re.compile(rf"{PACKAGE}/(layers/attention|models/(transformer_)?block|layers/block|models/backbone)\.py")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_tree(root: Path) -> dict[str, str]:
    """The package's sources below `root`, by path."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def read_commit(revision: str, repository: Path) -> dict[str, str]:
    """The package's sources at a commit, by path, read from git's archive of it."""
    command = ["git", "-C", str(repository), "archive", "--format=tar", revision, PACKAGE]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    sources = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.name.endswith(".py") and (file := tar.extractfile(member)):
                sources[member.name] = file.read().decode("utf-8")
    return dict(sorted(sources.items()))


def docstring(node: ast.AST) -> ast.Expr | None:
    """The statement that is the docstring of a module, class or function."""
    body = getattr(node, "body", None)
    if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
        return None
    value = body[0].value
    return body[0] if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function of a module, methods and nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def is_public(node: Function) -> bool:
    """Whether a function is meant to be called from elsewhere and has to document itself."""
    return not node.name.startswith("_") and not any(
        ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list
    )


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """The annotations of parameters, return values and variables."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            given = node.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
                if argument is not None and argument.annotation is not None:
                    yield argument.annotation
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def mentions_any(annotation: ast.expr) -> bool:
    """Whether `Any` occurs in the annotation, alone or inside a generic type."""
    return any(isinstance(part, ast.Name) and part.id == "Any" for part in ast.walk(annotation))


def comment_lines(source: str) -> int:
    """Lines with a comment, directives to tools not counted."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type == tokenize.COMMENT and not DIRECTIVE.match(token.string) for token in tokens)


def code_lines(source: str) -> int:
    """Lines of code: docstrings, comments and blank lines left out."""
    found: set[int] = set()
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        text = docstring(node)
        if text is not None:
            found.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return len(found)


def optional_asserts(tree: ast.AST) -> int:
    """`assert x is not None` statements, alone or within a condition."""
    asserts = (node for node in ast.walk(tree) if isinstance(node, ast.Assert))
    return sum("is not None" in ast.unparse(node.test) for node in asserts)


def private_keras(source: str) -> int:
    """Lines of code, strings and comments that name `keras.src`."""
    return sum("keras.src" in line for line in source.splitlines())


def measure(sources: Mapping[str, str]) -> dict[str, float]:
    """The figures of one state of the package."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    found = [node for tree in trees.values() for node in functions(tree)]
    public = [node for node in found if is_public(node)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in found]
    types = [each for tree in trees.values() for each in annotations(tree)]
    lines = [len(source.splitlines()) for source in sources.values()]
    names = Counter(PurePosixPath(path).name for path in sources if not path.endswith("__init__.py"))
    packages = {path: path.split("/")[1] for path in sources}
    return {
        "files": len(sources),
        "lines": sum(lines),
        "median lines of a file": statistics.median(lines),
        "longest file": max(lines),
        "functions": len(found),
        "median lines of a function": statistics.median(lengths),
        "90th percentile of them": statistics.quantiles(lengths, n=10, method="inclusive")[-1],
        "public functions with a docstring, %": share(sum(docstring(node) is not None for node in public), len(public)),
        "comment lines": sum(map(comment_lines, sources.values())),
        "comment lines per 1000 lines": round(1000 * sum(map(comment_lines, sources.values())) / sum(lines), 1),
        "annotations": len(types),
        "annotations with Any, %": share(sum(map(mentions_any, types)), len(types)),
        "file names that occur more than once": sum(count > 1 for count in names.values()),
        "asserts for optional parts in tasks/": sum(
            optional_asserts(tree) for path, tree in trees.items() if packages[path] == "tasks"
        ),
        "files in cli/": sum(package == "cli" for package in packages.values()),
        "lines of code of attention, block and backbone": sum(
            code_lines(source) for path, source in sources.items() if FORWARD_PATH.fullmatch(path)
        ),
        "uses of keras.src outside backend": sum(
            private_keras(source) for path, source in sources.items() if packages[path] not in ("backend", "backend.py")
        ),
    }


def share(part: int, whole: int) -> float:
    """A share in percent."""
    return round(100 * part / whole, 1) if whole else 0.0


def format_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """One row a figure, one column a state of the package."""
    rows = [["", *columns]] + [
        [name, *(f"{column[name]:g}" for column in columns.values())] for name in next(iter(columns.values()))
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help=f"folder that holds {PACKAGE}/; default: this checkout")
    parser.add_argument("--git", action="append", default=[], metavar="REV", help="a commit; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    root = given.path or Path(__file__).resolve().parent.parent
    columns = {revision: measure(read_commit(revision, root)) for revision in given.git}
    if given.path or not given.git:
        columns["working tree"] = measure(read_tree(root))
    print(json.dumps(columns, indent=1) if given.json else format_table(columns))


if __name__ == "__main__":
    main()
