"""Text classification: one text or a pair, one label or several."""
