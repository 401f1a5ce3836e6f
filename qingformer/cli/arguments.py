"""What the parser of the command line lets through or says too shortly: options given twice, names that others use."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from qingformer.errors import ConfigError

DEVICE = (
    "a GPU is used by itself where the library sees one (JAX: pip install 'jax[cuda12]'); JAX_PLATFORMS=cpu or cuda "
    "chooses, CUDA_VISIBLE_DEVICES=0 picks one"
)
# What other programs call an option, by ours. Of several the first that the verb has is meant.
NAMES: dict[str, str] = {
    "--learning-rate": "--lr --rate --learning",
    "--batch-size": "--batch --bs --bsz --batchsize --train-batch-size --per-device-train-batch-size",
    "--epochs": "--epoch --num-epochs --n-epochs --num-train-epochs",
    "--max-length": "--maxlen --max-len --max-seq-length --max-seq-len --seq-length --max-sequence-length",
    "--source": "--model -m --model-name --model-name-or-path --model-path --pretrained --bert --checkpoint",
    "--model": "--source --model-name-or-path --model-path --checkpoint --model-dir --run",
    "--train": "--data --train-file --train-data --training-data --input --file",
    "--dev": "--valid --val --validation --eval --dev-file --dev-data --validation-file --valid-file --eval-file",
    "--test": "--test-file --test-data",
    "--output": "--out --output-dir --out-dir --save --save-dir --save-path --output-file",
    "--output-format": "--out-format",
    "--vocabulary": "--vocab --vocab-file --vocab-path",
    "--label-column": "--label --label-field --target-column",
    "--text-column": "--text --text-field",
    "--labels": "--label-list --classes --label-names",
    "--task": "--task-type --task-name",
    "--seed": "--random-seed --random-state",
    "--precision mixed_bfloat16": "--fp16 --bf16 --amp --dtype --half --mixed-precision",
    "--transform fgm": "--fgm --adv --adversarial",
    "--transform pgd": "--pgd",
    "--transform r_drop=4": "--r-drop --rdrop",
    "--transform accumulation=4": "--gradient-accumulation-steps --accumulation --accumulate",
    "--transform clip": "--max-grad-norm --clip --gradient-clipping",
    "--patience": "--early-stopping --early-stop --early-stopping-patience",
    "--monitor": "--metric --metric-for-best-model --best-metric",
    "--save-every": "--save-steps --save-interval",
    "--resume": "--continue --resume-from-checkpoint",
    "--overwrite": "--force --overwrite-output-dir",
}
_DEVICES = ("--gpu", "--gpus", "--device", "--devices", "--cuda", "--use-gpu", "--use-cuda", "--cpu", "--no-cuda")


def check_arguments(command: Any, arguments: Sequence[str]) -> None:
    """Look through a command line before it is parsed.

    Raises:
        ConfigError: an option that takes one value is given twice; an option that the verb has under another name.
    """
    verb = next((each for each in arguments if not each.startswith("-")), None)
    if verb not in getattr(command, "commands", {}):
        return
    params = {name: param for param in command.commands[verb].params for name in (*param.opts, *param.secondary_opts)}
    given: dict[str, str] = {}
    for text in _options(arguments[arguments.index(verb) + 1 :], params):
        param = params.get(text)
        if param is None:
            _explain(str(verb), text, params)
        elif param.name in given and not param.multiple:
            first = given[param.name]
            twice = "is given twice" if first == text else f"and {first} are the same option, given twice"
            more = "; join the files into one, as with cat" if param.name in ("train", "dev", "test") else ""
            raise ConfigError(f"{text} {twice}; it takes one value{more}")
        else:
            given[param.name] = text


def _options(arguments: Sequence[str], params: dict[str, Any]) -> Iterator[str]:
    """The names of the options in a command line, as they are written, without their values."""
    rest = iter(arguments)
    for text in rest:
        if text == "--":
            return
        name = text.split("=", 1)[0] if text.startswith("--") else text[:2]
        if not text.startswith("-") or text == "-":
            continue
        yield name
        param = params.get(name)
        if param is not None and not param.is_flag and name == text:
            next(rest, None)


def _explain(verb: str, text: str, params: dict[str, Any]) -> None:
    name = text.replace("_", "-").lower()
    if name in _DEVICES:
        raise ConfigError(f"{text}: no such option; {DEVICE}")
    meant = [ours for ours, others in NAMES.items() if name in others.split() and ours.split()[0] in params]
    if name in params:
        meant = [name]
    if not meant and text.startswith("--"):
        meant = difflib.get_close_matches(name, [each for each in params if each.startswith("--")], n=1, cutoff=0.8)
    if meant:
        raise ConfigError(
            f"{text}: {verb} has no such option; write {meant[0]} (all options: qingformer {verb} --help)"
        )
