"""`make demo`: train a small classifier on the bundled sample, score it, and ask it about five sentences."""

import os
import sys
import time
from pathlib import Path

from qingformer.cli import run

ROOT = Path(os.path.relpath(Path(__file__).resolve().parent.parent))
OUTPUT = ROOT / "runs" / "demo"
SENTENCES = (
    "明天出门要不要带伞",
    "放一首适合睡前听的歌",
    "帮我把客厅的灯调暗一点",
    "这两天嗓子疼该怎么办",
    "从这里到火车站怎么走最快",
)


def show(*arguments: str) -> None:
    """Print the command as a user would type it, then run it; stop at the first that fails."""
    print("\n$ qingformer", " ".join(arguments), flush=True)
    code = run(list(arguments))
    if code:
        sys.exit(code)


def main() -> None:
    """Train, score, predict."""
    began = time.perf_counter()
    sample = ROOT / "samples" / "intents"
    show(
        "train", "--from-scratch", "tiny", "--vocabulary", str(ROOT / "samples" / "vocab.txt"),
        "--train", str(sample / "train.jsonl"), "--dev", str(sample / "dev.jsonl"),
        "--test", str(sample / "test.jsonl"),
        "--epochs", "5", "--max-length", "64", "--output", str(OUTPUT), "--overwrite",
    )  # fmt: skip
    questions = OUTPUT / "sentences.txt"
    questions.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    show("predict", str(questions), "--model", str(OUTPUT))
    print(f"\ndone in {time.perf_counter() - began:.0f} s; the learning curve is {OUTPUT / 'curve.png'}")


if __name__ == "__main__":
    main()
