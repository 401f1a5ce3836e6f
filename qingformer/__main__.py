"""`python -m qingformer` is the same as `qingformer`."""

from qingformer.cli import main

main()
