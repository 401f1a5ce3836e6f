"""`qingformer info`: what is in a pretrained model or a run's folder, and what it costs to use."""

from typing import Annotated

import typer

NAME = "info"
EPILOG = """[bold]Examples[/bold]

Before loading:  qingformer info chinese_L-12_H-768_A-12

For longer texts:  qingformer info runs/first --length 512

For a program:  qingformer info runs/first --json | jq .parameters.total
"""


def command(
    source: Annotated[
        str,
        typer.Argument(help="A folder, a .ckpt, a weights file, a run's folder or hf://org/name.", show_default=False),
    ],
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per sentence for the cost. [dim]128, or the most the model reads.[/dim]"),
    ] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every stored weight with its shape and type.")
    ] = False,
    family: Annotated[str | None, typer.Option(help="The model's family, where the files do not tell.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Show format, family, roles, files, configuration, what is missing or left over, parameters and cost.

    The weights are not read, only their names and shapes.
    """
    from qingformer.cli.description import describe, print_description

    found = describe(source, length, family=family, tensors=tensors)
    if json:
        from json import dumps

        typer.echo(dumps(found, ensure_ascii=False))
    else:
        print_description(found)
