"""Freed memory that stays with the process is not cleared again by the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from qingformer import backend
if sys.argv[1] == "keep" and not backend.keep_freed_memory():
    sys.exit(77)
bytearray(200_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(200_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(setting: str) -> int:
    result = subprocess.run([sys.executable, "-c", SCRIPT, setting], capture_output=True, text=True)
    if result.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_kept_memory_is_not_faulted_in_again() -> None:
    assert page_faults("keep") < 100


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_the_measure_sees_the_faults_without_the_setting() -> None:
    assert page_faults("default") > 100
