"""Write tests/fixtures/checkpoints with TensorFlow, PyTorch and safetensors, for the tests that run without them.

Run from the project root with all three installed: python scripts/make_fixtures_checkpoints.py
"""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.torch
import tensorflow as tf
import torch

FOLDER = Path("tests/fixtures/checkpoints")
TYPES = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
]


def values(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    if dtype.startswith(("int", "uint")):
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)
    numbers = generator.normal(size=shape)
    return (numbers + 1j * generator.normal(size=shape) if dtype.startswith("complex") else numbers).astype(kind)


def tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(20)
    result = {f"of/{dtype}": values(dtype, (3, 5), generator) for dtype in TYPES}
    result["scalar"] = np.array(1.5, np.float32)
    result["empty"] = np.zeros((0, 4), np.float32)
    result["名字"] = values("float32", (2, 1, 3), generator)
    return result


def describe(name: str, expected: dict[str, np.ndarray]) -> None:
    """Write the expected tensors as JSON: type, shape and bytes in hexadecimal."""
    table = {
        key: {"dtype": str(value.dtype), "shape": list(value.shape), "hex": np.ascontiguousarray(value).tobytes().hex()}
        for key, value in expected.items()
    }
    (FOLDER / f"{name}.expected.json").write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n", "utf-8")


def save_v2(prefix: Path, content: dict[str, np.ndarray]) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(content),
        shape_and_slices=[""] * len(content),
        tensors=[tf.constant(value) for value in content.values()],
    )


def tensorflow_bundles() -> None:
    content = tensors()
    save_v2(FOLDER / "types.ckpt", content)
    describe("types.ckpt", content)
    shards = [dict(list(content.items())[part::3]) for part in range(3)]
    for number, shard in enumerate(shards):
        save_v2(FOLDER / f"part{number}", shard)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(FOLDER / f"part{number}") for number in range(3)],
        destination_prefix=str(FOLDER / "sharded.ckpt"),
        delete_old_dirs=False,
    )
    many = {f"layer_{number:03d}/kernel": np.full((number % 3,), number, np.int32) for number in range(400)}
    save_v2(FOLDER / "many.ckpt", many)


def tensorflow_special() -> None:
    save_v2(FOLDER / "text.ckpt", {"words": np.array([["天气", ""], ["b" * 300, "c"]], dtype=object)})
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    keras_like = tf.Module()
    keras_like.kernel = tf.Variable(kernel, name="dense/kernel")
    tf.train.Checkpoint(model=keras_like).write(str(FOLDER / "object.ckpt"))
    tf.raw_ops.SaveV2(
        prefix=str(FOLDER / "partitioned.ckpt"),
        tensor_names=["part", "part"],
        shape_and_slices=["4 3 0,2:0,3", "4 3 2,2:0,3"],
        tensors=[tf.constant(kernel), tf.constant(kernel)],
    )
    tf.raw_ops.Save(filename=str(FOLDER / "v1.ckpt"), tensor_names=["kernel"], data=[tf.constant(kernel)])


def torch_files() -> None:
    named = {key.replace("/", "."): value for key, value in tensors().items() if not key.startswith("of/uint")}
    state = {key: torch_tensor(value) for key, value in named.items()}
    base = torch.arange(24, dtype=torch.float32)
    state["whole"] = base
    state["offset"] = base[4:10]
    state["transposed"] = base.reshape(4, 6).t()
    state["strided"] = base.reshape(2, 3, 4)[:, ::2, 1::2]
    state["expanded"] = base[:3].reshape(1, 3).expand(4, 3)
    state["parameter"] = torch.nn.Parameter(base[:2].clone())
    state["unsigned8"] = torch.arange(5, dtype=torch.uint8)
    expected = {key: numpy_array(value) for key, value in state.items()}
    describe("torch", expected)
    torch.save(torch.nn.Module().state_dict() | state, FOLDER / "torch_zip.bin")
    torch.save(state, FOLDER / "torch_legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": {"a": base}, "other": [base]}, FOLDER / "torch_wrapped.pt")
    torch.save({"a": {"b": [base, {"c": base[:2]}]}, "n": 1.5}, FOLDER / "torch_nested.pt")
    torch.save(torch.nn.Linear(2, 3).state_dict(), FOLDER / "torch_module.bin")
    torch.save(torch.nn.Linear(2, 3), FOLDER / "torch_pickled_class.bin")
    newer = {"small": torch.arange(5).to(torch.uint16), "f8": torch.ones(3).to(torch.float8_e4m3fn)}
    torch.save(newer, FOLDER / "torch_newer.bin")


def torch_tensor(value: np.ndarray) -> torch.Tensor:
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(value))


def numpy_array(value: torch.Tensor) -> np.ndarray:
    value = value.detach().contiguous()
    return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if value.dtype == torch.bfloat16 else value.numpy()


def safetensors_file() -> None:
    named = {key.replace("/", "."): value for key, value in tensors().items() if "complex" not in key}
    state = {key: torch_tensor(value) for key, value in named.items()}
    safetensors.torch.save_file(state, FOLDER / "types.safetensors", {"format": "pt"})
    describe("types.safetensors", named)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    torch.manual_seed(0)
    tensorflow_bundles()
    tensorflow_special()
    torch_files()
    safetensors_file()
