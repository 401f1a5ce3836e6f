"""`qingformer convert` and `qingformer info`: a pretrained model in another format, and what is in its files."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

CONVERT_EPILOG = """[bold]Examples[/bold]

Google's checkpoint for transformers:  qingformer convert chinese_L-12_H-768_A-12 bert-hf --to huggingface

And back:  qingformer convert bert-hf bert-tf --to tensorflow
"""
INFO_EPILOG = """[bold]Examples[/bold]

Before loading:  qingformer info chinese_L-12_H-768_A-12

For longer texts:  qingformer info runs/first --length 512

For a program:  qingformer info runs/first --json | jq .parameters.total
"""


class Layout(StrEnum):
    """The formats of pretrained models."""

    qingformer = "qingformer"
    huggingface = "huggingface"
    tensorflow = "tensorflow"


def convert_command(
    source: Annotated[
        str, typer.Argument(help="A folder, a .ckpt, a weights file or hf://org/name.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(help="Folder to write; it is whole or as it was before.", show_default=False)
    ],
    to: Annotated[Layout, typer.Option(help="Format to write.")] = Layout.qingformer,
    head: Annotated[
        str,
        typer.Option(
            help="What to carry over: auto (all that is there; to huggingface also a trained task's head), none (the "
            "body alone), mlm (masked language model), lm "
            "(causal), seq2seq (encoder-decoder), pretraining (mlm and nsp), nsp (next sentence), sop (their order), "
            "replaced (ELECTRA's discriminator) or similarity (SimBERT, RoFormer-Sim)."
        ),
    ] = "auto",
    family: Annotated[str | None, typer.Option(help="The model's family, where config.json does not tell.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it is there.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Read weights whose checksum is wrong or that are not finite.")
    ] = False,
) -> None:
    """Rewrite a model as Google's TensorFlow checkpoint, as a Hugging Face folder, or as a QingFormer folder.

    Every weight is accounted for: one that is missing or left over is an error, not a guess.
    """
    from qingformer.cli.model_tables import convert

    convert(source, target, to.value, head=head, family=family, overwrite=overwrite, verify=not no_verify)


def info_command(
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
    from qingformer.analysis.model_description import describe
    from qingformer.cli.model_tables import print_description, run_model

    found = describe(source, length, folder=run_model(source), family=family, tensors=tensors)
    if json:
        from json import dumps

        typer.echo(dumps(found, ensure_ascii=False))
    else:
        print_description(found)
