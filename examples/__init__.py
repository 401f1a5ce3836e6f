"""One script for each training trick: `python -m examples.r_drop`; each prints a table "without / with"."""

import qingformer  # noqa: F401 - before Keras, so that it chooses JAX where KERAS_BACKEND says nothing
