"""A short, seeded form of scripts/fuzz.py over files that are read without a model."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "fuzz.py"


def test_damaged_files_end_in_one_line_or_an_equal_load():
    kinds = ["config.json", "task.json", "tokenizer.json", "tokenizer_config.json", "ckpt data", "curve.jsonl"]
    command = [sys.executable, str(SCRIPT), "--cases", "90", "--seed", "3", "--kinds", *kinds]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all " in finished.stdout
