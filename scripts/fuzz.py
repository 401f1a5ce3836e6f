"""Mutate every kind of file that the project reads: each case must end in a one-line error of ours or an equal load.

python scripts/fuzz.py --cases 1000 --seed 0

Mutations are modest: flipped bits, cut or repeated pieces, values of another type or size at the keys of JSON files,
deeper nesting, more digits. Cases run in child processes, so that crashes and endless cases are noticed; each has
5 seconds and 1 GiB beyond what the process had. Files whose checksum is stored must never load damaged.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FIXTURES = ROOT / "tests" / "fixtures"
SECONDS, MEMORY = 5, 2**30
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错"]
ODD_VALUES = [None, True, -1, 0, 3, 10**12, 10**30, 1e308, "", "一", "x" * 5000, [], [1, "a"], {}, {"a": {}}, [[[[]]]]]
DATA = {
    "jsonl": ('{"text": "今天", "label": "a"}\n{"text": "不错", "label": "b"}\n' * 3, "read_classification"),
    "csv": ("text,label\n今天,a\n不错,b\n" * 3, "read_classification"),
    "tsv": ("text\tlabel\n今天\ta\n不错\tb\n" * 3, "read_classification"),
    "conll": ("今 B-PER\n天 I-PER\n\n不 O\n错 O\n\n" * 3, "read_tagging"),
    "squad": (
        '{"data": [{"paragraphs": [{"context": "今天不错", "qas": [{"id": "1", "question": "哪天", "answers": '
        '[{"text": "今天", "answer_start": 0}]}]}]}]}',
        "read_reading",
    ),
    "relations": ('{"text": "今天不错", "spo_list": [["今天", "是", "不错"]]}\n' * 3, "read_relations"),
}


def prepare(folder):
    """The folders with undamaged files; kind -> (file, how it is read, whether its bytes have a checksum)."""
    import qingformer as qf
    from qingformer.checkpoints import open_checkpoint
    from qingformer.data.examples import read_classification
    from qingformer.data.reading import read_reading
    from qingformer.data.relations import read_relations
    from qingformer.data.tagging import read_tagging
    from qingformer.models.config import BackboneConfig
    from qingformer.training.curve import read_curve
    from qingformer.training.memory import read_info

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = qf.Tokenizer.from_vocabulary(VOCABULARY)
    model = qf.Backbone(BackboneConfig(vocab_size=len(VOCABULARY), **sizes))
    for form in ("tensorflow", "huggingface"):
        model.save_pretrained(folder / form, format=form)
    task = qf.TextClassifier(model, tokenizer, labels=["a", "b"], max_length=8)
    task.save(folder / "task")
    model.enable_lora(2)
    model.save_adapters(folder / "adapters")
    model.save_adapters(folder / "peft", format="peft")
    names = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
    for name in names:
        (folder / name).mkdir()
        shutil.copy(folder / "task" / name, folder / name / name)
    (folder / "tokenizer_config.json" / "vocab.txt").write_bytes((folder / "task" / "vocab.txt").read_bytes())
    settings = {"additional_special_tokens": ["[MASK]"], "do_lower_case": True}
    settings["added_tokens_decoder"] = {"4": {"content": "[MASK]"}}
    (folder / "tokenizer_config.json" / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copytree(FIXTURES / "tokenization", folder / "pieces")
    shutil.copytree(FIXTURES / "checkpoints", folder / "stored")
    weights = folder / "sharded" / "model-00001-of-00001.safetensors"
    weights.parent.mkdir()
    shutil.copy(folder / "huggingface" / "model.safetensors", weights)
    with open_checkpoint(weights) as checkpoint:
        index = {"metadata": {}, "weight_map": dict.fromkeys(checkpoint.names(), weights.name)}
    shards = weights.with_name("model.safetensors.index.json")
    shards.write_text(json.dumps(index))
    state = {"format": 1, "epoch": 1, "batch": 0, "step": 3, "epoch_logs": [], "companions": [], "optimizer": "Adam"}
    (folder / "state.json").write_text(json.dumps({**state, "variables": []}))
    (folder / "curve.jsonl").write_text('{"kind": "epoch", "step": 1, "epoch": 0, "loss": 0.5}\n' * 4)
    readers = {"read_classification": read_classification, "read_tagging": read_tagging, "read_reading": read_reading}
    readers["read_relations"] = read_relations

    def weights_of(path):
        with open_checkpoint(path, verify=True) as checkpoint:
            return {name: checkpoint.read(name).tobytes() for name in checkpoint.names()}

    def ids(path):
        return lambda: qf.Tokenizer.from_pretrained(path).encode("今天x").token_ids

    def adapters(path):
        fresh = qf.Backbone(BackboneConfig(vocab_size=len(VOCABULARY), **sizes))
        return lambda: fresh.load_adapters(path, strict=False)

    def backbone(path):
        return lambda: {k: v.tobytes() for k, v in qf.Backbone.from_pretrained(path).weight_arrays().items()}

    stored, pieces = folder / "stored", folder / "pieces"
    kinds = {
        "config.json": (folder / "huggingface" / "config.json", backbone(folder / "huggingface"), False),
        "bert_config.json": (folder / "tensorflow" / "bert_config.json", backbone(folder / "tensorflow"), False),
        "own safetensors": (folder / "task" / "model.safetensors", backbone(folder / "task"), True),
        "head.safetensors": (folder / "task" / "head.safetensors", lambda: qf.load(folder / "task") and 0, True),
        "task.json": (folder / "task" / "task.json", lambda: qf.load(folder / "task") and 0, False),
        "own config.json": (folder / "task" / "config.json", backbone(folder / "task"), False),
        "safetensors": (stored / "types.safetensors", lambda: weights_of(stored / "types.safetensors"), False),
        "ckpt index": (stored / "many.ckpt.index", lambda: weights_of(stored / "many.ckpt"), True),
        "ckpt data": (stored / "many.ckpt.data-00000-of-00001", lambda: weights_of(stored / "many.ckpt"), True),
        "torch zip": (stored / "torch_zip.bin", lambda: weights_of(stored / "torch_zip.bin"), False),
        "torch legacy": (stored / "torch_legacy.bin", lambda: weights_of(stored / "torch_legacy.bin"), False),
        "shards": (shards, lambda: weights_of(shards), False),
        "adapters.json": (folder / "adapters" / "adapters.json", adapters(folder / "adapters"), False),
        "adapter_config.json": (folder / "peft" / "adapter_config.json", adapters(folder / "peft"), False),
        "spiece.model": (pieces / "albert.model", ids(pieces / "albert.model"), False),
        "merges.txt": (pieces / "gpt2" / "merges.txt", ids(pieces / "gpt2"), False),
        "vocab.json": (pieces / "gpt2" / "vocab.json", ids(pieces / "gpt2"), False),
        "state.json": (folder / "state.json", lambda: read_info(folder / "state.json") and 0, False),
        "curve.jsonl": (folder / "curve.jsonl", lambda: read_curve(folder / "curve.jsonl") and 0, False),
    }
    kinds |= {name: (folder / name / name, ids(folder / name), False) for name in names}
    for form, (text, reader) in DATA.items():
        path = folder / f"data.{ {'conll': 'txt', 'squad': 'json', 'relations': 'json'}.get(form, form) }"
        path = path.with_name(f"{form}-{path.name}")
        path.write_text(text, encoding="utf-8")
        kinds[f"data: {form}"] = (path, lambda path=path, reader=reader: consumed(readers[reader](path)), False)
    return kinds


def consumed(found):
    """0, once a lazy reader has read all of its file."""
    return sum(0 for _ in found) if hasattr(found, "__next__") else 0


def mutated(content, rng):
    """The bytes with one to three modest changes."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, dict) and rng.random() < 0.7:
        return json.dumps(changed_value(value, rng)).encode()
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(content) or 1), rng.randint(1, 40)
        choice = rng.randrange(5)
        if choice == 0 and content:
            content[place] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del content[place:]
        elif choice == 2:
            del content[place : place + length]
        elif choice == 3:
            content[place:place] = content[place : place + length] * rng.randint(1, 3)
        else:
            content[place : place + length] = rng.randbytes(length)
    return bytes(content)


def changed_value(value, rng):
    """A JSON object with an odd value at one of its keys, at any depth."""
    part, keys = value, list(value)
    while keys:
        key = rng.choice(keys)
        inner = part[key]
        if isinstance(inner, dict) and inner and rng.random() < 0.5:
            part, keys = inner, list(inner)
            continue
        choice = rng.randrange(4)
        if choice == 0:
            del part[key]
        elif choice == 1:
            part[f"{key}_"] = part.pop(key)
        elif choice == 2:
            part[key] = json.loads("[" * 90 + "]" * 90)
        else:
            part[key] = rng.choice(ODD_VALUES)
        break
    return value


class TooLongError(BaseException):
    """A case took more than its seconds."""


def stop(*_):
    raise TooLongError


def judge(read, sound, checked, same):
    """The name of the outcome, and what to show if it is a wrong one."""
    from qingformer.errors import QingFormerError

    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = read()
    except QingFormerError as problem:
        text = str(problem)
        return ("error of ours", "") if "\n" not in text and len(text) < 400 else ("wrong", f"message: {text[:300]}")
    except TooLongError:
        return "wrong", f"more than {SECONDS} seconds"
    except BaseException as problem:
        return "wrong", f"{type(problem).__name__}: {problem}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if result == sound:
        return "equal load", ""
    return ("wrong", "a damaged file with a checksum was loaded") if checked and not same else ("other values", "")


def child(kind_names, cases, seed):
    """Run cases and print one JSON line each."""
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stop)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        kinds = prepare(folder)
        for kind in kind_names or kinds:
            path, read, checked = kinds[kind]
            content, sound = path.read_bytes(), read()
            rng = random.Random(f"{seed} {kind}")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for case in range(cases):
                damaged = mutated(content, rng)
                path.write_bytes(damaged)
                print(json.dumps({"kind": kind, "case": case}), flush=True)
                outcome, shown = judge(read, sound, checked, damaged == content)
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
                if grown > MEMORY:
                    outcome, shown, before = "wrong", f"{grown} bytes more", before + grown // 1024
                print(json.dumps({"kind": kind, "outcome": outcome, "shown": shown}), flush=True)
            path.write_bytes(content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="number of cases, spread over the kinds of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[], help="mutate only these kinds of files")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        return child(arguments.kinds, arguments.child, arguments.seed)
    each = -(-arguments.cases // (len(arguments.kinds) or 28))
    began = time.monotonic()
    command = [sys.executable, __file__, "--child", str(each), "--seed", str(arguments.seed)]
    counts, wrong, open_case = {}, [], None
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *(["--kinds", *arguments.kinds] if arguments.kinds else [])],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        for line in process.stdout:
            if not line.startswith("{"):
                continue
            row = json.loads(line)
            open_case = row if "case" in row else None
            if "outcome" in row:
                counts.setdefault(row["kind"], {}).setdefault(row["outcome"], 0)
                counts[row["kind"]][row["outcome"]] += 1
                wrong += [f"{row['kind']}: {row['shown']}"] if row["outcome"] == "wrong" else []
    if process.returncode:
        wrong.append(f"the process ended with {process.returncode} in {open_case}")
    names = ("error of ours", "equal load", "other values", "wrong")
    print(f"{'kind':22}" + "".join(f"{name:>15}" for name in names))
    for kind, found in counts.items():
        print(f"{kind:22}" + "".join(f"{found.get(name, 0):15}" for name in names))
    totals = [sum(found.get(name, 0) for found in counts.values()) for name in names]
    print(f"{'all':22}" + "".join(f"{total:15}" for total in totals) + f"   {time.monotonic() - began:.0f} s")
    for text in dict.fromkeys(wrong):
        print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
