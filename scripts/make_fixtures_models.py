"""Write the parity fixtures of the models: random BERTs of `transformers`, their outputs and gradients.

Run with torch and transformers installed: `python scripts/make_fixtures_models.py`. The result is committed under
tests/fixtures/transformers, so that the first ring of tests needs neither.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.models import peer  # noqa: E402


def main() -> None:
    for name in peer.SETTINGS:
        directory = ROOT / "tests" / "fixtures" / "transformers" / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        arrays = peer.make(name, directory)
        np.savez_compressed(directory / "expected.npz", **arrays)
        print(name, sum(file.stat().st_size for file in directory.iterdir()) // 1024, "KB")


if __name__ == "__main__":
    main()
