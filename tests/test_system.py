"""The allocator keeps freed memory unless the user has set it otherwise, and a container's quota is read."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from genie_gym import system

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
    """Count the page faults of three rounds of 160 MB, after a first round."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keeps=keeps)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_freed_memory_is_reused() -> None:
    assert count_faults(keeps=True) < 100 < count_faults(keeps=False)


def test_the_users_own_setting_is_kept() -> None:
    """Each setting is tried in a process of its own, since it cannot be undone."""
    code = "from genie_gym.system import keep_freed_memory as keep; print(keep())"
    glibc = platform.libc_ver()[0] == "glibc"
    for environment, expected in (({}, glibc), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)):
        usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command, settings = [sys.executable, "-c", code], {**usual, **environment}
        done = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert system.read_quota(tmp_path) == quota


HOLD = """
import sys, time
from pathlib import Path
from genie_gym.system import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_locked_folder_names_its_process_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = pytest.raises(ValueError, match=rf"run is in use by process {process.pid} on .*choose another")
        with refused, system.lock_folder(folder):
            pass
        with system.lock_folder(tmp_path / "new"):
            pass
        process.kill()
    for _ in range(2):
        with system.lock_folder(folder):
            assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file cannot be written"), system.lock_folder(tmp_path / "file"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_storage_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="without locks"), system.lock_folder(tmp_path):
        pass
