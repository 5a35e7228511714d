"""The folder of the compiled kernels among other users: nothing that they may write is loaded."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from genie_gym.serving.kernel_folder import KernelFolder
from tests.serving.tiny_library import Tiny, assert_refused, load_library

STRANGER = 12345
"""Number of a user who is not this one."""


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file or folder another user's; if this is not root, make this process another user instead."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


@pytest.mark.parametrize("place", ["library", "hash", "folder"])
def test_a_library_of_another_user_is_not_loaded(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    library = tiny.compile()
    path = {"library": library, "hash": library.with_suffix(".sha256"), "folder": tiny.folder}[place]
    content = library.read_bytes()
    user = os.geteuid()
    give_away(path, monkeypatch)
    assert_refused(caplog, f"belongs to user {STRANGER if user == 0 else user}", "set XDG_CACHE_HOME")
    assert library.read_bytes() == content
    assert not tiny.ran.exists()


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("place", ["library", "hash", "folder"])
def test_a_library_that_others_may_write_is_not_loaded(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, place: str, mode: int
) -> None:
    library = tiny.compile()
    path = {"library": library, "hash": library.with_suffix(".sha256"), "folder": tiny.folder}[place]
    path.chmod(path.stat().st_mode | mode)
    content = library.read_bytes()
    assert_refused(caplog, f"other users may write {path}", "set XDG_CACHE_HOME")
    assert library.read_bytes() == content
    assert not tiny.ran.exists()
    path.chmod(0o700)
    assert load_library("tiny").answer() == 42
    assert tiny.ran.exists(), "or the checks above check nothing"


def test_a_link_in_place_of_the_folder_is_not_followed(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    tiny.compile()
    tiny.folder.rename(tiny.here / "elsewhere")
    tiny.folder.symlink_to(tiny.here / "elsewhere")
    assert_refused(caplog, str(tiny.folder), "Not a directory")
    assert not tiny.ran.exists()


def test_a_folder_that_is_swapped_after_the_check_is_not_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user who may rename the folder's parent puts a library of his own at the same path."""
    library = tiny.compile()
    find_fault = KernelFolder.find_fault

    def find_and_swap(folder: KernelFolder, file: str) -> str | None:
        fault = find_fault(folder, file)
        tiny.folder.rename(tiny.here / "elsewhere")
        tiny.folder.mkdir()
        library.write_bytes(b"a library of another user")
        return fault

    monkeypatch.setattr(KernelFolder, "find_fault", find_and_swap)
    assert load_library("tiny").answer() == 42


def test_a_folder_that_is_swapped_while_compiling_is_not_written(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, make_compiler: Callable[[str, str], str]
) -> None:
    swap = f'mv {tiny.folder} {tiny.here}/elsewhere; mkdir {tiny.folder}; exec g++ "$@"'
    monkeypatch.setenv("CXX", make_compiler("swapping", swap))
    assert load_library("tiny").answer() == 42
    assert list(tiny.folder.iterdir()) == []


def test_a_careless_umask_changes_no_permission(tiny: Tiny) -> None:
    previous = os.umask(0)
    try:
        tiny.compile()
    finally:
        os.umask(previous)
    modes = {path.name.partition(".")[2]: path.stat().st_mode & 0o777 for path in tiny.folder.iterdir()}
    assert modes == {"so": 0o600, "sha256": 0o600, "": 0o600}
    folders = [folder.stat().st_mode & 0o777 for folder in (tiny.folder, *tiny.folder.parents[:2])]
    assert folders == [0o700] * 3
