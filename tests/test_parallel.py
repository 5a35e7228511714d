"""Tests that processes end with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genie_gym.parallel import run_in_processes

PARENT = """
import os, signal, sys, time
from genie_gym.parallel import run_in_processes

def work(task):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background of a shell
    list(run_in_processes(work, range(2), 2))
"""


def is_running(pid: int) -> bool:
    """Return whether a process is there and is more than an entry that waits to be collected."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads the states of processes from Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    """They would otherwise write beside the run that resumes; Ctrl-C reaches parent and children alike."""
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "pids").mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "pids")]
    deadline = time.monotonic() + 300
    environment, piped = {**os.environ, "PYTHONPATH": path}, subprocess.PIPE
    with subprocess.Popen(command, env=environment, stderr=piped, text=True, start_new_session=True) as parent:
        while len(list((tmp_path / "pids").iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        told = parent.communicate(timeout=300)[1]
    assert told.count("Traceback") == (number == signal.SIGINT)  # the parent's own, which a command tells in a line
    children = [int(file.name) for file in (tmp_path / "pids").iterdir()]
    assert len(children) == 2
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, children))


def kill_oneself(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def test_a_process_that_the_system_kills_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="a process of this command was killed by the system"):
        list(run_in_processes(kill_oneself, range(2), 2))
