"""The allocator keeps freed memory unless the user has set it otherwise, and a container's quota is read."""

import errno
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from genie_gym import system
from tests.test_parallel import is_running

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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    def hold(_: int) -> None:
        with system.lock_folder(tmp_path, seconds=60):
            (tmp_path / "mine").touch(exist_ok=False)  # nobody else is here
            (tmp_path / "mine").unlink()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(200)))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
@pytest.mark.parametrize("moment", [0, 1])
def test_a_lock_that_is_given_back_meanwhile_is_taken(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder deletes the file at any moment in which it is looked at."""
    stat, looked = Path.stat, list[Path]()

    def look(path: Path, **settings: Any) -> os.stat_result:
        if path.name == ".lock":
            looked.append(path)
            if len(looked) == moment + 1:
                path.unlink()
        return stat(path, **settings)

    monkeypatch.setattr(Path, "stat", look)
    with system.lock_folder(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.skipif(sys.platform == "win32", reason="what a killed process left is deleted elsewhere")
def test_what_killed_processes_left_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    """But not what a running process writes, nor what only has a similar name."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    path, running, dead = tmp_path / "file", os.getppid(), int(gone.stdout)
    kept = [tmp_path / name for name in (f"file.{running}.tmp", "file.x.tmp", f"other.{dead}.tmp", "file.tmp")]
    left = [tmp_path / f"file.{number}.tmp" for number in (dead, os.getpid(), 10**30)]
    for each in kept + left[:2]:
        each.write_text("part")
    left[2].mkdir()
    (left[2] / "inner").write_text("part")
    with system.replace_file(path) as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), OSError("the library failed")])
def test_an_error_of_writing_names_the_file(tmp_path: Path, error: OSError) -> None:
    def fail() -> None:
        with system.replace_file(tmp_path / "file") as temporary:
            temporary.write_text("part")
            raise error

    (tmp_path / "file").write_text("before")
    with pytest.raises(OSError, match=r"/file") as raised:
        fail()
    assert raised.value.errno == error.errno
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("fault", ["no folder", "a file for a folder", "a folder for the file"])
def test_an_error_of_a_place_names_the_file_and_not_the_temporary_one(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "place" / "file"
    if fault == "a file for a folder":
        path.parent.touch()
    elif fault == "a folder for the file":
        path.mkdir(parents=True)

    def write() -> None:
        with system.replace_file(path) as temporary:
            temporary.write_text("whole")

    with pytest.raises(OSError, match=r"place/file'$") as raised:
        write()
    assert raised.value.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def test_an_error_about_another_file_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), system.replace_file(tmp_path / "file"):
        (tmp_path / "other").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    assert system.exchange(one, other)
    assert [path.name for path in one.iterdir()] == ["other"]
    assert not system.exchange(one, tmp_path / "missing")


CHILD = "import time; from genie_gym.system import end_with_parent; end_with_parent(); print('up', flush=True)"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD + "; time.sleep(600)"!r}])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_a_rank_ends_with_its_launcher_even_if_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "up\n"
        parent.kill()
    deadline = time.monotonic() + 300
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)
