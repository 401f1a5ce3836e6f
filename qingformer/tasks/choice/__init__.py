"""Multiple choice: which of several answers goes with a question and a text."""
