"""Low-rank adapters of a dense layer: its variables, the product they add, and how both are kept in files."""

from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.types import InitializerLike, Tensor

ADAPTER = ("lora_kernel_a", "lora_kernel_b")
START = ("lora_start_a", "lora_start_b")
_SCALE = "lora_scale"


class LowRank(keras.layers.Dense):
    """A dense layer that, after `enable_lora`, gives

        act(x W + (alpha / r) (x A) B + b)

    with the same variables as Keras' own, which multiplies A and B out first: that costs as much as the gradient of W
    that low rank is to spare. Source: Hu et al. 2021, arXiv 2106.09685; 科学空间, archives/9590.

    Example: `layers.Dense(4)`, whose base this is
    """

    lora_enabled: bool
    _merged: np.ndarray | None = None  # the factor B, while A B is part of the kernel

    def low_rank_part(self, inputs: Tensor) -> Tensor:
        """(alpha / r) (x A) B, (..., units): two thin products, forward and backward."""
        inner = backend.matmul(inputs, self.lora_kernel_a) * self.lora_scale
        return ops.cast(backend.matmul(inner, self.lora_kernel_b), self.compute_dtype)

    @property
    def lora_scale(self) -> float:
        """The factor alpha / r before A B."""
        return float(self.lora_alpha / self.lora_rank)

    @property
    def lora_merged(self) -> bool:
        """Whether A B is part of the kernel at present."""
        return self._merged is not None

    @property
    def lora_symmetric(self) -> bool:
        """Whether both factors started at random, with their product taken off the kernel."""
        return self.lora_enabled and hasattr(self, "lora_start_a")

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: InitializerLike = None,
        b_initializer: InitializerLike = "zeros",
        symmetric: bool = False,
    ) -> None:
        """Add the factors A (d, r) and B (r, units), float32, and freeze the kernel.

        A starts uniform in +-1/sqrt(d), B at zero. With `symmetric` B starts uniform in +-1/sqrt(units) and the kernel
        becomes W_0 - (alpha / r) A_0 B_0, so that the layer gives what it gave, and both factors learn at once.
        `lora_alpha` is `rank` if None.

        Raises:
            ConfigError: a symmetric start of a quantised kernel, from which nothing can be taken off.
        """
        if symmetric and self.quantization_mode is not None:
            raise ConfigError(
                f"{self.path} is quantized ({self.quantization_mode}), so the symmetric start cannot be taken off its "
                "kernel; leave symmetric=False"
            )
        if lora_alpha is None and self.lora_rank == rank:  # as read from a configuration
            lora_alpha = self.lora_alpha
        if symmetric and b_initializer == "zeros":
            b_initializer = _uniform("fan_out")
        super().enable_lora(rank, lora_alpha, a_initializer or _uniform("fan_in"), b_initializer)
        if symmetric:
            self.set_start(*(ops.convert_to_numpy(getattr(self, name).value) for name in ADAPTER))

    def add_start(self) -> None:
        """Make the variables that hold A_0 and B_0, zero at first."""
        self._tracker.unlock()
        for name, factor in zip(START, ADAPTER):
            shape = getattr(self, factor).shape
            made = self.add_weight(name=name, shape=shape, initializer="zeros", dtype="float32", trainable=False)
            setattr(self, name, made)
        self._tracker.lock()

    def set_start(self, a: np.ndarray, b: np.ndarray) -> None:
        """Make (a, b) the product that is taken off the kernel, in place of the one before."""
        self.unmerge_lora()
        if not self.lora_symmetric:
            self.add_start()
        self._kernel.assign(self.base_kernel() - self.lora_scale * (a @ b))
        for name, value in zip(START, (a, b)):
            getattr(self, name).assign(value)

    def base_kernel(self) -> np.ndarray:
        """W_0 (d, units) float32: the kernel without anything of the adapters, dequantised if it is quantised."""
        kernel = _numpy(self._kernel)
        if self.quantization_mode == "int8":
            return kernel / _numpy(self.kernel_scale)
        if self.lora_enabled and self.lora_merged:
            kernel = kernel - self.lora_scale * (_numpy(self.lora_kernel_a) @ self._merged)
        if self.lora_symmetric:
            kernel = kernel + self.lora_scale * (_numpy(self.lora_start_a) @ _numpy(self.lora_start_b))
        return kernel

    def merged_kernel(self) -> np.ndarray:
        """The kernel (d, units) float32 with the adapters in it, whether they are merged at present or not."""
        kernel = _numpy(self._kernel)
        if self.lora_enabled and not self.lora_merged:
            kernel = kernel + self.lora_scale * (_numpy(self.lora_kernel_a) @ _numpy(self.lora_kernel_b))
        return kernel

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """A (d, r) and B (r, units), also while they are merged."""
        b = self._merged if self._merged is not None else _numpy(self.lora_kernel_b)
        return _numpy(self.lora_kernel_a), b

    def set_factors(self, a: np.ndarray, b: np.ndarray) -> None:
        """Put other values in place of A and B."""
        self.unmerge_lora()
        self.lora_kernel_a.assign(a)
        self.lora_kernel_b.assign(b)

    def merge_lora(self) -> None:
        """Add (alpha / r) A B to the kernel. B is set to zero, so that what was compiled before stays right.

        Raises:
            ConfigError: the kernel is quantised.
        """
        if not self.lora_enabled or self.lora_merged:
            return
        if self.quantization_mode is not None:
            raise ConfigError(
                f"{self.path} is quantized ({self.quantization_mode}): a low-rank update merged into it would be "
                "rounded away; load the adapters into the unquantized model and merge there"
            )
        merged, kept = self.merged_kernel(), self.factors()[1]
        self._kernel.assign(merged)
        self.lora_kernel_b.assign(np.zeros_like(kept))
        self._merged = kept
        self.lora_kernel_a.trainable = self.lora_kernel_b.trainable = False

    def unmerge_lora(self) -> None:
        """Take (alpha / r) A B off the kernel again, exact up to the rounding of the two sums."""
        if not self.lora_merged:
            return
        a, b = self.factors()
        self._kernel.assign(_numpy(self._kernel) - self.lora_scale * (a @ b))
        self._merged = None
        self.lora_kernel_b.assign(b)
        self.lora_kernel_a.trainable = self.lora_kernel_b.trainable = True

    def save_own_variables(self, store: Any) -> None:
        """The kernel without the adapters, and the adapters: the parent stores their sum and forgets them."""
        enabled: bool = self.lora_enabled
        self.lora_enabled = False
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = enabled
        if enabled:
            for name in (*ADAPTER, *(START if self.lora_symmetric else ())):
                store[name] = getattr(self, name)
            store[_SCALE] = np.float32(self.lora_scale)

    def load_own_variables(self, store: Any) -> None:
        """As stored; adapters go into those of this layer, or, where it has none, into its kernel."""
        names = [str(name) for name in store.keys()]  # noqa: SIM118  # an entry of a file is no mapping
        plain = {name: store[name] for name in names if not name.startswith("lora_")}
        stored = {name: np.array(store[name]) for name in names if name.startswith("lora_")}
        start = _numpy(self.lora_kernel_a) if self.lora_enabled else None
        super().load_own_variables(plain if stored else store)  # the parent sets both factors to zero
        if self.lora_enabled:
            self._merged = None
            for name, value in ({ADAPTER[0]: start} | stored).items():
                if name != _SCALE:
                    getattr(self, name).assign(value)
        elif stored and self.quantization_mode is None:
            delta = stored[ADAPTER[0]] @ stored[ADAPTER[1]]
            self._kernel.assign(_numpy(self._kernel) + float(stored[_SCALE]) * delta)
        elif stored:
            raise ConfigError(f"{self.path}: the file has low-rank adapters, which this quantized layer cannot take in")


def _uniform(mode: str) -> keras.initializers.Initializer:
    """Uniform in +-1/sqrt(fan)."""
    return keras.initializers.VarianceScaling(1 / 3, mode, "uniform")


def _numpy(variable: Any) -> np.ndarray:
    # A copy: on JAX the array would be a view of memory that the next training step takes over.
    return np.array(ops.convert_to_numpy(variable.value), dtype="float32")
