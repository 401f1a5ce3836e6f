"""Short scripts to copy: load, data, fit, predict. Each runs as it stands: `python examples/classify.py`."""
