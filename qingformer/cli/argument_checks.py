"""Mistakes that the parser accepts or explains too briefly: options given twice, names from other programs."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from qingformer.errors import ConfigError
from qingformer.types import Config

DEVICE = (
    "a GPU is used by itself where the library sees one (JAX: pip install 'jax[cuda12]'); JAX_PLATFORMS=cpu or cuda "
    "chooses, CUDA_VISIBLE_DEVICES=0 picks one"
)
# Our options and what other programs call them; of several that share a name the first that the verb has is meant.
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
    "--columns": "--header --no-header --header-names",
    "--vocabulary": "--vocab --vocab-file --vocab-path --tokenizer --tokenizer-name --tokenizer-path",
    "--class-weights": "--class-weight",
    "--quoting": "--quote --quotechar",
    "--format": "--file-format --file-type --type",
    "--all": "--probabilities --proba --return-all-scores --top-k",
}
# Options of other programs that have no counterpart here, by what to do instead.
_WITHOUT: dict[str, str] = {
    "scoring and predicting are commands of their own: qingformer evaluate, qingformer predict": (
        "--do-train --do-eval --do-predict --do-test --mode --predict --predict-file"
    ),
    "the labels are counted in the data; name them all with --labels a,b,c": "--num-labels --num-classes --n-classes",
    "letter case is read from the source's own files": "--do-lower-case --lowercase --uncased --cased",
    "data are split before: give the parts with --train, --dev and --test": (
        "--validation-split --val-split --val-ratio --dev-ratio --test-size --split --fold --folds --n-folds --kfold"
    ),
    "--train, --dev and --test name the files themselves": "--data-dir --data-path --dataset --dataset-name",
    "it is set in Python only: fit(optimizer=...), docs/training.md": (
        "--optimizer --optim --weight-decay --wd --momentum --beta1 --beta2 --adam-epsilon --warmup --warmup-ratio "
        "--warmup-steps --warmup-proportion --scheduler --lr-scheduler --lr-scheduler-type --schedule --ema --lr-decay"
    ),
    "it is set in Python only: backbone.enable_lora(8), docs/training.md": (
        "--lora --lora-rank --lora-r --lora-alpha --use-lora --peft"
    ),
    "the layers are those of --source; another size is chosen with --from-scratch": (
        "--hidden-size --num-layers --num-hidden-layers --num-heads --dropout --hidden-dropout --config --config-name"
    ),
    "every step is shown and the curve is kept in the folder of --output": (
        "--logging-steps --log-steps --log-level --logging-dir --log-dir --verbose --quiet --tensorboard --wandb "
        "--report-to -v -q"
    ),
    "--dev is scored after every epoch; --save-every counts the steps between resume points": (
        "--eval-steps --evaluate-steps --evaluation-strategy --eval-strategy --save-strategy --save-total-limit"
    ),
    "batches are made in one process": "--num-workers --workers --local-rank --world-size --distributed --n-gpu",
    "fields are divided by the tab of .tsv or the comma of .csv": "--delimiter --sep --separator --delim",
    "shorten the file, as with head -n 100": (
        "--max-train-samples --max-samples --max-eval-samples --limit --num-samples --sample --max-steps"
    ),
}
_FILES = "--input --file --data --test --input-file --test-file --predict-file --texts --text-file --eval-file --dev"
_VERBS = {
    "train": "fit finetune fine-tune run",
    "evaluate": "eval test score dev validate",
    "predict": "infer inference pred tag classify label apply",
    "convert": "export save",
}
# --joiner "" is how Chinese tokens are joined.
_MAY_BE_EMPTY = ("joiner", "no_label", "label_separator")
_DEVICES = ("--gpu", "--gpus", "--device", "--devices", "--cuda", "--use-gpu", "--use-cuda", "--cpu", "--no-cuda")


def check_arguments(command: Any, arguments: Sequence[str]) -> None:
    """Look through a command line before it is parsed.

    Raises:
        ConfigError: an option that takes one value is given twice; an option that the verb has under another name, or
            not at all; a verb of another program; an empty value, which as a path would be the folder one stands in.
    """
    verb = next((each for each in arguments if not each.startswith("-")), None)
    if verb not in getattr(command, "commands", {}):
        _explain_verb(verb, arguments)
        return
    params = {name: param for param in command.commands[verb].params for name in (*param.opts, *param.secondary_opts)}
    given: dict[str, str] = {}
    for text, value in _options(arguments[arguments.index(verb) + 1 :], params):
        param = params.get(text)
        if value == "" and (param is None or param.name not in _MAY_BE_EMPTY):
            raise ConfigError(
                f"{text or 'an argument'} of {verb} is empty; if it is a variable of the shell, see that it is set"
            )
        if not text:
            continue
        if param is None:
            _explain(str(verb), text, params)
        elif param.name in given and not param.multiple:
            first = given[param.name]
            twice = "is given twice" if first == text else f"and {first} are the same option, given twice"
            more = "; join the files into one, as with cat" if param.name in ("train", "dev", "test") else ""
            raise ConfigError(f"{text} {twice}; it takes one value{more}")
        else:
            given[param.name] = text


def _options(arguments: Sequence[str], params: Config) -> Iterator[tuple[str, str | None]]:
    """The options in a command line, as they are written, and their values; "" before what stands by itself."""
    # As the parser reads them, without its errors: this runs before it.
    rest = iter(arguments)
    for text in rest:
        if text == "--":
            return
        if not text.startswith("-") or text == "-":
            yield "", text
            continue
        # --option=value, or -ovalue.
        name, is_joined, value = text.partition("=") if text.startswith("--") else (text[:2], text[2:], text[2:])
        param = params.get(name)
        if param is not None and not param.is_flag and not is_joined:
            yield name, next(rest, None)
        else:
            yield name, value if is_joined else None


def _explain_verb(verb: str | None, arguments: Sequence[str]) -> None:
    if verb is not None and verb == arguments[0]:
        meant = next((ours for ours, others in _VERBS.items() if verb in others.split()), None)
        if meant is not None:
            raise ConfigError(f"{verb} is not a command; write qingformer {meant} (all: qingformer --help)")
    elif arguments and arguments[0] in ("--train", "--source", "--model", "-m", "--task"):
        raise ConfigError(
            f"{arguments[0]} stands after a command: qingformer train, evaluate or predict (all: qingformer --help)"
        )


def _explain(verb: str, text: str, params: Config) -> None:
    name = text.replace("_", "-").lower()
    if name in _DEVICES:
        raise ConfigError(f"{text}: no such option; {DEVICE}")
    if verb in ("predict", "evaluate") and name in _FILES.split() and name not in params:
        raise ConfigError(
            f"{text}: {verb} has no such option; write the file alone: qingformer {verb} FILE --model RUN"
        )
    meant = [ours for ours, others in NAMES.items() if name in others.split() and ours.split()[0] in params]
    if name in params:
        meant = [name]
    if not meant:
        remedy = next((remedy for remedy, names in _WITHOUT.items() if name in names.split()), None)
        if remedy is not None:
            raise ConfigError(f"{text}: {verb} has no such option; {remedy}")
    if not meant and text.startswith("--"):
        # 0.8 finds a letter too much or two exchanged, and not another word.
        meant = difflib.get_close_matches(name, [each for each in params if each.startswith("--")], n=1, cutoff=0.8)
    if meant:
        raise ConfigError(
            f"{text}: {verb} has no such option; write {meant[0]} (all options: qingformer {verb} --help)"
        )
