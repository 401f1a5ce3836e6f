#!/usr/bin/env bash
# safetensors 0.8.0: `safetensors.numpy.save` and `save_file` write the memory of an array, not its elements. Weights that
# a converter transposes with `.T`, slices by columns or holds in Fortran order come back with the right shape and other
# numbers. No error, no warning; the docstring asks for contiguous arrays, nothing checks it. 0.7.0 wrote them right.
# Seen with numpy 2.4.6 on Python 3.11.
# QingFormer: the one place that writes safetensors passes contiguous arrays.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
cat > "$folder/look.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    "as it is": matrix,
    "transposed": matrix.T,
    "fortran order": np.asfortranarray(matrix),
    "every second column": matrix[:, ::2],
}
same = []
for name, array in arrays.items():
    in_memory = load(save({"weight": array}))["weight"]
    save_file({"weight": array}, sys.argv[1])
    on_disk = load_file(sys.argv[1])["weight"]
    assert in_memory.shape == on_disk.shape == array.shape and np.array_equal(in_memory, on_disk)
    same.append(bool(np.array_equal(array, in_memory)))
    print(f"safetensors {safetensors.__version__}: {name}: given {array.tolist()}, read back {in_memory.tolist()}")
expected = {"0.7.0": [True, True, True, True], "0.8.0": [True, False, False, False]}[safetensors.__version__]
sys.exit(same != expected)
PY
for version in 0.7.0 0.8.0; do
  "$folder/env/bin/python" -m pip install --quiet "safetensors==$version" numpy==2.4.6
  "$folder/env/bin/python" "$folder/look.py" "$folder/one.safetensors" || { echo "changed: $version"; exit 1; }
done
echo "as described"
