"""Write the parity fixtures of NEZHA from transformers 4.57.6, the last release that has the family (as deprecated).

In an environment of its own, which nothing else uses:

    python3 -m venv .venv-nezha
    .venv-nezha/bin/python -m pip install torch==2.13.0 transformers==4.57.6
    .venv-nezha/bin/python scripts/make_fixtures_nezha.py

The result is committed under tests/fixtures/transformers/nezha.
"""

import sys

import transformers
from make_fixtures_models import write_family

NEEDED = "4.57.6"


def main() -> None:
    if transformers.__version__ != NEEDED:
        sys.exit(f"transformers {transformers.__version__} is installed, {NEEDED} is needed: see the head of this file")
    write_family("nezha")


if __name__ == "__main__":
    main()
