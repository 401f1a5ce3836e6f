"""Sequence tagging: entities, slots and words, by a chain of tags or by pointers to spans."""
