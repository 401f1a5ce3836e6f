"""Relation extraction: the triples (subject, relation, object) that a text states."""
