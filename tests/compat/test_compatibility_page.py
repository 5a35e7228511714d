"""The page of compatible libraries: each program has pins, is Python, and stands in the table with those pins."""

import re

import pytest
from snippets import PAGE, PROGRAMS, RESULTS, pins_of, versions_of

from genie_gym.results.files import read_results

HEADINGS = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)


def test_every_section_has_a_program() -> None:
    assert list(PROGRAMS) == HEADINGS
    assert {"Gymnasium", "Stable-Baselines3", "Tianshou", "skrl", "TorchRL", "Minari"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_pins_and_plays_the_world(name: str) -> None:
    compile(PROGRAMS[name], name, "exec")
    assert "Genie-v0" in PROGRAMS[name] or "make_sb3_vec_env" in PROGRAMS[name]
    lines = pins_of(name).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert versions_of(name)["torch"]


def test_the_results_are_of_these_programs_and_pins() -> None:
    rows = read_results(RESULTS)["rows"]
    assert set(rows) == set(PROGRAMS)
    for name, row in rows.items():
        assert row["passed"], name
        assert {label: row[label] for label in versions_of(name)} == versions_of(name), f"{name}: run make compat"
