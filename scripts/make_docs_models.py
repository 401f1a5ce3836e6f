"""Write the table of families into docs/models.md and docs/models.zh.md, from the registry and the recorded evidence.

Run from the repository root: python scripts/make_docs_models.py (--check only tests whether the files are current).
"""

import inspect
import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from qingformer.checkpoints.weight_map import FORMATS  # noqa: E402
from qingformer.models import FAMILIES, BackboneConfig  # noqa: E402

HEADS = {
    "en": "| family | reads | writes | application (first: default) | heads | positions | norm | evidence |",
    "zh": "| 家族 | 可读格式 | 可写格式 | 用途（首个为默认） | 输出头 | 位置 | 归一化 | 依据 |",
}
NAMES = {"tensorflow": "TensorFlow", "huggingface": "Hugging Face"}
BEGIN, END = "<!-- families: made by scripts/make_docs_models.py -->", "<!-- end of families -->"


def formats(family: str, reading: bool) -> str:
    """The formats in which the family's blocks have names, and in how many namings they are read."""
    config = BackboneConfig(vocab_size=9, family=family, num_hidden_layers=1)
    rows = [row for row in FAMILIES[family].weight_map(config).rows if "block_0/" in row.ours]
    found = ["QingFormer"]
    for layout in FORMATS:
        names = Counter(row.ours for row in rows if row.name(layout))
        if names:
            count = max(names.values())
            found.append(NAMES[layout] + (f" ({count} namings)" if reading and count > 1 else ""))
    return ", ".join(found)


def evidence(family: str) -> str:
    """What the tests compare the family with."""
    tests = ROOT / "tests"
    found = []
    recorded = sorted((tests / "fixtures" / "bert4keras").glob("*/builds.json"))
    recorded = [path for path in recorded if re.fullmatch(pattern_of(family), path.parent.name)]
    if recorded:
        count = sum(len(json.loads(path.read_text())["builds"]) for path in recorded)
        found.append(f"bert4keras {count}")
    peers = [
        path for path in (tests / "fixtures" / "transformers").rglob("expected.npz") if peer_family(path) == family
    ]
    if peers:
        found.append(f"transformers {len(peers)}")
    if (tests / "references" / f"{family}.py").exists():
        found.append("NumPy")
    return ", ".join(found) or "as its parent"


def pattern_of(family: str) -> str:
    """The recorded folders of a family."""
    return {"bert": r"bert.*", "t5": r"m?t5.*"}.get(family, family)


def peer_family(path: Path) -> str:
    """The family of a parity fixture: its folder, or BERT for those that stand at the top."""
    folder, *deeper = path.relative_to(ROOT / "tests" / "fixtures" / "transformers").parts
    return {"mt5": "t5", "qwen2": "llama", "qwen3": "llama"}.get(folder, folder) if len(deeper) > 1 else "bert"


def row(family: str) -> str:
    """One line of the table."""
    cls = FAMILIES[family]
    config = BackboneConfig(vocab_size=9, family=family)
    applications = [config.application, *(name for name in cls.spec.applications if name != config.application)]
    norm = f"{config.norm_type.replace('_', ' ')}, {config.norm_position}"
    cells = [
        f"`{family}`",
        formats(family, reading=True),
        formats(family, reading=False),
        ", ".join(applications),
        ", ".join(cls.spec.heads),
        config.position_embedding_type,
        norm,
        evidence(family),
    ]
    return f"| {' | '.join(cells)} |"


def sources() -> list[str]:
    """One line a family file: what it says of itself, and its sources."""
    lines = []
    for module in dict.fromkeys(inspect.getmodule(cls) for cls in FAMILIES.values()):
        text = inspect.getdoc(module) or ""
        title, _, rest = text.partition("\n")
        found = re.search(r"Sources?: (.*)$", rest, re.DOTALL)
        names = ", ".join(f"`{name}`" for name, cls in FAMILIES.items() if inspect.getmodule(cls) is module)
        source = " ".join(found.group(1).split()) if found else ""
        lines.append(f"- {names}: {title.rstrip('.')}. {source}")
    return lines


def table(language: str) -> str:
    """The generated part of a page."""
    width = HEADS[language].count("|") - 1
    rows = [HEADS[language], "|" + "---|" * width, *(row(family) for family in sorted(FAMILIES))]
    return "\n".join([BEGIN, "", *rows, "", *sources(), "", END])


def main(arguments: list[str]) -> int:
    """Write or check both pages; 1 if a page is not current."""
    stale = 0
    for name, language in (("models.md", "en"), ("models.zh.md", "zh")):
        path = ROOT / "docs" / name
        text = path.read_text(encoding="utf-8")
        begin, end = text.index(BEGIN), text.index(END) + len(END)
        new = text[:begin] + table(language) + text[end:]
        if new != text and "--check" in arguments:
            print(f"docs/{name} is not current: run python scripts/make_docs_models.py")
            stale = 1
        elif new != text:
            path.write_text(new, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
