"""Pure functions over `keras.ops`: no state, no variables."""
