"""Comparisons of training tricks, one module each: `python -m experiments.r_drop` prints a table "without / with"."""
