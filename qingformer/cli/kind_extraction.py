"""Relations: triples of subject, relation and object."""

from typing import Any

from qingformer.cli.kind import Kind, Options
from qingformer.data.relations import read_schema
from qingformer.errors import ConfigError
from qingformer.tasks import RelationExtractor
from qingformer.tasks.relations.relation_examples import read_texts

_CLASS = ("design", "pointer", "stride")


class RelationKind(Kind):
    """The triples that a text states."""

    name = "relations"
    task = RelationExtractor
    options = frozenset({*_CLASS, "format", "schema", "strict"})

    def check(self, options: Options) -> None:
        design = options.get("design") or "gplinker"
        if options.get("pointer") is not None and design != "gplinker":
            raise ConfigError(f"--pointer does not go with --design {design}, only with gplinker; leave it out")

    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        return read_texts(
            path, "data", labelled, _relations(options), format=options["format"], encoding=options["encoding"],
            strict=bool(options.get("strict")),
        )  # fmt: skip

    def settings(self, options: Options) -> dict[str, Any]:
        return {"relations": _relations(options)} | {
            name: options[name] for name in _CLASS if options[name] is not None
        }

    def names(self, task: Any) -> dict[str, Any]:
        return {"relations": task.relations}

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        triples = [
            {
                "subject": each.subject,
                "relation": each.relation,
                "object": each.object,
                "subject_place": list(each.subject_place),
                "object_place": list(each.object_place),
            }
            for each in prediction.found
        ]
        return {"text": prediction.text, "triples": triples}


def _relations(options: Options) -> list[str] | None:
    schema = options.get("schema")
    return None if schema is None else read_schema(schema)
