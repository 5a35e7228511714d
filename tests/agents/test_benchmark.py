"""The benchmark from recording to figure at the preset ``smoke``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents import arena, benchmark
from agents.benchmark import KEYS, SIZES, Benchmark
from agents.evaluation import gather_seeds
from experiments.lib.tables.cloning import tabulate_cloning

METHODS = {"lam", "lam_majority", "lam_features", "lam_oracle_map", "expert_latents", "expert_seen_latents"}
METHODS |= {"oracle", "labelled_only", "marginal", "random", "expert"}


@pytest.mark.pipeline
def test_benchmark_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Benchmark(out=tmp_path / "out", work=tmp_path / "work")
    command.run()
    results = json.loads(command.json.read_text())
    rows = results["rows"]
    assert {row["method"] for row in rows} == METHODS
    assert len(rows) == len(command.list_cells(SIZES["smoke"])) == 13
    for row in rows:
        assert {"mode", "method", "labels", "seed", "levels", "solved"} <= set(row)
        assert 0 <= row["solved"] <= 1
        assert row["solved"] == pytest.approx(np.mean([int(each) for each in row["solved_by_level"]]))
    assert command.picture.exists()
    assert "1 seeds, " in tabulate_cloning(results)
    assert "1 of 5 seeds so far" in tabulate_cloning({**results, "seeds": 5})
    table = tabulate_cloning(results).splitlines()[2:]
    assert all("(one seed)" in line for line in table[2:])
    assert len(table) == 2 + len(rows)
    assert sum("oracle" in line for line in table) == 1

    # cut off before its last row, it makes that one alone again, and the same
    results["rows"] = rows[:-1]
    command.json.write_text(json.dumps(results))
    asked = []
    play = benchmark.play_levels
    monkeypatch.setattr(benchmark, "play_levels", lambda *given: asked.append(given) or play(*given))
    command.run()
    again = json.loads(command.json.read_text())["rows"]
    assert len(asked) == 1
    assert [row["solved_by_level"] for row in again] == [row["solved_by_level"] for row in rows]

    # a finished policy plays without the videos that it was cloned from
    results["rows"] = [row for row in rows if row["method"] != "oracle"]
    command.json.write_text(json.dumps(results))
    with monkeypatch.context() as patch:
        patch.setattr(arena, "read_footage", None)
        command.run()
    again = json.loads(command.json.read_text())["rows"]
    assert {row["method"]: row["solved_by_level"] for row in again} == {
        row["method"]: row["solved_by_level"] for row in rows
    }

    # frames that another process holds are cloned from, not read again
    shutil.rmtree(next((tmp_path / "work").rglob("easy-*/oracle-0")))
    footages = {"easy": command.open("easy").footage}
    with monkeypatch.context() as patch:
        patch.setattr(arena, "read_footage", None)
        command.clone(footages, {"mode": "easy", "method": "oracle", "seed": 0})
    benchmark.open_arena.cache_clear()
    results["rows"] = [row for row in rows if row["method"] != "oracle"]
    command.json.write_text(json.dumps(results))
    command.run()
    again = json.loads(command.json.read_text())["rows"]
    (solved,) = (row["solved_by_level"] for row in again if row["method"] == "oracle")
    assert solved in {row["solved_by_level"] for row in rows if row["method"] == "oracle"}

    # some methods now, without clones where none is needed
    some = Benchmark(out=tmp_path / "some", work=tmp_path / "some", methods=("random", "marginal"), processes=2)
    some.run()
    assert {row["method"] for row in json.loads(some.json.read_text())["rows"]} == {"random", "marginal"}
    assert [folder.name for folder in (tmp_path / "some").rglob("demonstrations-easy/*")] == ["labelled"]
    with pytest.raises(ValueError, match=r"methods must be among .*, got \('random', 'none'\)"):
        Benchmark(methods=("random", "none")).run()

    # several processes make the same rows
    shutil.rmtree(next((tmp_path / "work").rglob("easy-*")))
    apart = Benchmark(out=tmp_path / "apart", work=tmp_path / "work", processes=2)
    apart.run()
    by_cell = lambda told: {(row["method"], row["labels"]): row["solved_by_level"] for row in told}  # noqa: E731
    assert by_cell(json.loads(apart.json.read_text())["rows"]) == by_cell(rows)

    # beside another model's labels, what sees none is not played again
    shipped = json.loads(command.json.read_text())
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({**shipped, "labels_of": "another", "checkpoint": "another", "commit": "abc1234"}))
    blind = ("random", "expert", "oracle", "labelled_only", "marginal")
    beside = Benchmark(out=tmp_path / "beside", work=tmp_path / "nothing", methods=blind, baselines=elsewhere)
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "play_levels", None)
        beside.run()
    told = json.loads(beside.json.read_text())
    assert told["labels_of"] == shipped["labels_of"]
    assert {row["commit"] for row in told["rows"]} == {"abc1234"}
    assert by_cell(told["rows"]) == by_cell(row for row in rows if row["method"] in blind)
    asked.clear()
    replace(beside, methods=(*blind, "expert_latents"), work=tmp_path / "work").run()
    assert len(asked) == 1
    told = json.loads(beside.json.read_text())
    assert [row["method"] for row in told["rows"] if "commit" not in row] == ["expert_latents"]
    assert f"; {len(told['rows']) - 1} of {len(told['rows'])} rows from commit `abc1234`:" in tabulate_cloning(told)
    elsewhere.write_text(json.dumps({**shipped, "frames": 1}))
    other = replace(beside, out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"elsewhere.json holds rows of other settings, frames 1, not 4096$"):
        other.run()
    with pytest.raises(ValueError, match=r"results '.*missing.json' must be a file"):
        replace(other, baselines=tmp_path / "missing.json").run()
    assert not other.json.exists()

    # rows of other labels do not stand beside these
    other = Benchmark(out=tmp_path / "out", work=tmp_path / "work", player="random")
    with pytest.raises(ValueError, match="other settings"):
        other.run()


def test_one_mode_may_come_first() -> None:
    cells = Benchmark(preset="full").list_cells(SIZES["full"])
    for mode in ("easy", "hard"):
        some = Benchmark(preset="full", modes=(mode,)).list_cells(SIZES["full"])
        assert some == [cell for cell in cells if cell["mode"] == mode]
        assert some
        assert Benchmark(preset="full", modes=(mode, mode)).list_cells(SIZES["full"]) == some
    for modes in (("hard",), ()):
        with pytest.raises(ValueError, match=r"modes must be among \['easy'\], one or more, got \("):
            Benchmark(modes=modes).run()


def test_more_labels_than_there_are_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "smoke", {**SIZES["smoke"], "labelled_frames": 640, "labels": [641]})
    command = Benchmark(out=tmp_path / "out", work=tmp_path / "work")
    monkeypatch.setattr(
        Benchmark, "list_cells", lambda self, size: [{"mode": "easy", "method": "lam", "labels": 641, "seed": 0}]
    )
    with pytest.raises(ValueError, match=r"labels must be in 1\.\.576, the labelled samples there are, got 641"):
        command.run()


def test_seeds_are_gathered() -> None:
    rows = [
        {"mode": "easy", "method": "lam", "labels": 16, "solved_by_level": "0101"},
        {"mode": "easy", "method": "lam", "labels": 16, "solved_by_level": "0111"},
        {"mode": "easy", "method": "random", "labels": None, "solved_by_level": "0000"},
    ]
    told = gather_seeds(rows, KEYS)
    assert told["easy", "lam", 16]["solved"] == 5 / 8
    assert told["easy", "lam", 16]["by_seed"] == [0.5, 0.75]
    assert told["easy", "random", None]["interval"] == (0, 0)
