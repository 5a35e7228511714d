"""The allocator: freed memory is kept, unless the user has decided otherwise."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, numpy
from genie_gym.system import keep_freed_memory
if {keeps}:
    assert keep_freed_memory()
def touch():
    parts = [numpy.full(5_000_000, 1.0) for _ in range(4)]  # 40 MB each
    return len(parts)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(keeps: bool) -> int:
    """Pages that the system fills with zeros in three rounds of 160 MB, after a first one."""
    told = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keeps=keeps)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library holds memory as it likes")
def test_freed_memory_is_used_again() -> None:
    assert count_faults(keeps=True) < 100 < count_faults(keeps=False)


def test_the_allocator_is_left_alone_where_the_user_has_set_it() -> None:
    """In processes of their own: what an allocator was told once stays."""
    code = "from genie_gym.system import keep_freed_memory as keep; print(keep())"
    glibc = platform.libc_ver()[0] == "glibc"
    for environment, expected in (({}, glibc), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)):
        usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command, settings = [sys.executable, "-c", code], {**usual, **environment}
        done = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == str(expected)
