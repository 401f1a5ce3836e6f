"""Write the parity fixtures of the models: random models of `transformers`, their outputs and gradients.

Run with torch and transformers installed: `python scripts/make_fixtures_models.py [family ...]`; without a name all
families that the installed release has. The result is committed under tests/fixtures/transformers, so that `make test`
needs neither. NEZHA left transformers after release 4: see make_fixtures_nezha.py.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures" / "transformers"
sys.path.insert(0, str(ROOT))

from tests.models import peer, peers  # noqa: E402


def write(directory: Path, make: Callable[[Path], dict[str, np.ndarray]]) -> None:
    """One fixture: the model's files and expected.npz."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    np.savez_compressed(directory / "expected.npz", **make(directory))
    for file in directory.iterdir():
        if file.name not in ("config.json", "model.safetensors", "expected.npz"):
            file.unlink()
    print(directory.relative_to(FIXTURES), sum(file.stat().st_size for file in directory.iterdir()) // 1024, "KB")


def write_bert() -> None:
    """The fixtures of BERT, which lie one folder higher."""
    for name in peer.SETTINGS:
        write(FIXTURES / name, lambda directory, name=name: peer.make(name, directory))


def write_family(family: str) -> None:
    """All settings of one family."""
    for name in peers.PEERS[family]:
        write(FIXTURES / family / name, lambda directory, name=name: peers.make(family, name, directory))


def main() -> None:
    here = [family for family in ("bert", *peers.PEERS) if family != "nezha"]
    families = sys.argv[1:] or here
    unknown = set(families) - set(here)
    if unknown:
        sys.exit(f"unknown family {', '.join(sorted(unknown))}; known are {', '.join(here)}")
    for family in families:
        write_bert() if family == "bert" else write_family(family)


if __name__ == "__main__":
    main()
