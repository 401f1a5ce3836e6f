"""The matrix products of a traced computation."""

import numpy as np


def product_flops(equation) -> int:
    """Operations of the products in one equation of a JAX program, and in the programs within it."""
    inner = [value for value in equation.params.values() if hasattr(value, "jaxpr") or hasattr(value, "eqns")]
    if inner:
        return sum(product_flops(part) for value in inner for part in getattr(value, "jaxpr", value).eqns)
    if equation.primitive.name != "dot_general":
        return 0
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = int(np.prod([equation.invars[0].aval.shape[axis] for axis in contracted]))
    return 2 * depth * int(np.prod(equation.outvars[0].aval.shape))
