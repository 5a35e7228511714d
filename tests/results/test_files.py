"""Results files: provenance, and valid JSON whatever the numbers."""

import json
import math
from pathlib import Path

import pytest

from genie_gym.models.loading import digest_checkpoint
from genie_gym.results import files as results_file
from genie_gym.results.files import current_command, read_machines, write_by_machine, write_results


def test_a_package_outside_a_checkout_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "ROOT", tmp_path)
    results_file.current_commit.cache_clear()
    path = tmp_path / "results.json"
    write_results(path, {"a": 1})
    origin = {"command": current_command(), "commit": None, "shipped": digest_checkpoint("coinrun")}
    assert json.loads(path.read_text()) == {**origin, "a": 1}
    results_file.current_commit.cache_clear()


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, {"a": math.nan, "b": [1.5, (math.inf, "nan")], "c": {"d": -math.inf}})
    read = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (read["a"], read["b"], read["c"]) == (None, [1.5, [None, "nan"]], {"d": None})


def test_a_machine_never_overwrites_another_kinds_row(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    for kind, speed in (("one", 1), ("two", 2), ("one", 3)):
        write_by_machine(path, {"machine": {"kind": kind}, "speed": speed})
    rows = read_machines(path)
    assert [(row["machine"]["kind"], row["speed"]) for row in rows] == [("two", 2), ("one", 3)]
    assert all({"date", "commit", "command", "shipped"} <= set(row) for row in rows)


def test_other_results_are_not_overwritten_by_a_machines_row(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    for content in ({"speed": 1}, {"rows": [{"speed": 1}]}):
        write_results(path, content)
        with pytest.raises(ValueError, match=r"speed\.json.*kind of machine"):
            write_by_machine(path, {"machine": {"kind": "one"}})


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"rows": 3}', '{"rows": [3]}', '{"rows": [{"machine": 3}]}', "[" * 100_000]
)
def test_a_damaged_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"speed\.json"):
        read_machines(path)
