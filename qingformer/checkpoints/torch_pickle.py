"""A reader of the pickle streams inside PyTorch files that can build tensors and nothing else.

It is no `pickle.Unpickler`: the operations are decoded with `pickletools` and carried out here, on a stack that only
ever holds numbers, texts, plain containers, storages, tensor descriptions and marks for what training code keeps
beside its weights. No class is looked up, nothing is imported or called; a global outside `torch_types.GLOBALS` is an
error that names it.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from qingformer.checkpoints.torch_types import GLOBALS, Builder, Companion, Storage
from qingformer.errors import CheckpointError
from qingformer.types import Config

_MAXIMUM_OPERATIONS = 20_000_000
_MARK = object()
_KEY_TYPES = (str, int, float, bool, bytes, type(None))  # no tuples: hashing nested ones can take forever
_CONSTANTS: Config = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MAKERS: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)


def read_pickle(stream: object, storage: Callable[[tuple[Any, ...]], Storage]) -> Any:
    """Build the object of the pickle at the position of `stream`, which is left behind it.

    Args:
        stream: a file object over the bytes, such as `io.BytesIO` or `mmap.mmap`.
        storage: turns a persistent id into a storage.

    Raises:
        CheckpointError: the stream is damaged or truncated, or holds anything but tensors in plain containers.
    """
    machine = _Machine(storage)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(cast(BinaryIO, stream))):
            if count > _MAXIMUM_OPERATIONS:
                raise CheckpointError("damaged: its pickle has a nonsense number of operations")
            machine.step(operation.name, argument)
        return machine.result()
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, EOFError) as problem:
        raise CheckpointError(f"damaged: its pickle cannot be decoded: {str(problem)[:120]}") from None


class _Machine:
    def __init__(self, storage: Callable[[tuple[Any, ...]], Storage]) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise CheckpointError("damaged: its pickle leaves more or less than one object")
        return self._pop()

    def step(self, name: str, argument: object) -> None:
        """Carry out one operation."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _MAKERS:
            self._stack.append(_MAKERS[name]())
        elif name == "MARK":
            self._stack.append(_MARK)
        else:
            method = getattr(self, f"_do_{name.lower()}", None)
            if method is None:
                raise CheckpointError(f"its pickle uses the operation {name}, which no tensor needs; it was not run")
            method(argument)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def _pop_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:  # runs into IndexError where no mark is left
            position -= 1
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"needs a {kind.__name__}, found a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _ignore(self, argument: object) -> None:
        """For frames and protocol numbers."""

    _do_proto = _do_frame = _do_stop = _ignore

    def _do_pop(self, argument: object) -> None:
        self._stack.pop()

    def _do_pop_mark(self, argument: object) -> None:
        self._pop_mark()

    def _do_dup(self, argument: object) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, argument: Any) -> None:
        if self._stack[-1] is _MARK:
            raise ValueError("a mark where a value is needed")
        self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    _do_put = _do_binput = _do_long_binput = _do_memoize = _put
    _do_get = _do_binget = _do_long_binget = _get

    def _do_tuple(self, argument: object) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _do_tuple1(self, argument: object) -> None:
        self._stack.append((self._pop(),))

    def _do_tuple2(self, argument: object) -> None:
        second, first = self._pop(), self._pop()
        self._stack.append((first, second))

    def _do_tuple3(self, argument: object) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, second, third))

    def _do_list(self, argument: object) -> None:
        self._stack.append(self._pop_mark())

    def _do_append(self, argument: object) -> None:
        self._extend([self._pop()])

    def _do_appends(self, argument: object) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], Companion):
            self._top(list).extend(values)

    def _do_dict(self, argument: object) -> None:
        values = self._pop_mark()
        self._stack.append({})
        self._set_items(values)

    def _do_setitem(self, argument: object) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _do_setitems(self, argument: object) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], Companion):
            return
        target = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEY_TYPES) or (isinstance(key, int) and key.bit_length() > 64):
                raise ValueError(f"a {type(key).__name__} as key")
            target[key] = value

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_global(module, name)

    def _do_stack_global(self, argument: object) -> None:
        name, module = self._pop(), self._pop()
        self._push_global(module, name)

    def _push_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global whose name is not text")
        known = GLOBALS.get((module, name))
        if known is None:
            raise CheckpointError(
                f"wants {module[:80]}.{name[:80]}, which is not part of a tensor; nothing was run. "
                "Save only a state_dict, or convert the file to safetensors where you trust it"
            )
        self._stack.append(known)

    def _do_reduce(self, argument: object) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Builder) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is not a function")
        self._stack.append(function.build(*arguments))

    def _do_newobj(self, argument: object) -> None:
        self._do_reduce(argument)
        if not isinstance(self._stack[-1], Companion):
            raise ValueError("an object of something that is not a class")

    def _do_build(self, argument: object) -> None:
        self._pop()  # the attributes of a state_dict, such as its version numbers, or of a companion
        if not isinstance(self._stack[-1], Companion):
            self._top(dict)

    def _persistent(self, identity: object) -> None:
        if not isinstance(identity, tuple):
            raise ValueError("a storage whose identity is not a tuple")
        self._stack.append(self._storage(identity))

    def _do_binpersid(self, argument: object) -> None:
        self._persistent(self._pop())
