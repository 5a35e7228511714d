"""Tests that keyword rules keep and drop the videos that they should."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from genie_gym.curation.rules import PAPER_RULES, Rule, filter_videos, judge, read_rules, read_sidecar

GOOD = {"title": "Super Cat: a 2D platformer, full playthrough", "description": "no commentary"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"title": "Side-scroller Cat", "description": "A SPEEDRUN in 5 minutes"}, None),
        ({"title": "Best platformers, speedrunning them all"}, None),
        ({"title": "Super Cat, full playthrough"}, "title must have one of platformer"),
        ({"title": "Super Cat: a platformer"}, "title or description must have one of speedrun"),
        ({"title": "Platformer playthrough: the movie"}, "title must not have 'movie"),
        ({"title": "Unboxing a platformer, with playthrough"}, "title must not have 'unboxing"),
        ({"description": "after the movie came the unboxing"}, None),
        ({"title": None}, "title must have"),
        ({"title": "Transplatformer speedrun"}, "title must have"),
    ],
)
def test_the_papers_rules(changes: dict[str, Any], reason: str | None) -> None:
    found = judge({**GOOD, **changes}, PAPER_RULES)
    assert found is None if reason is None else found is not None and reason in found


def test_a_word_is_no_part_of_another_word_unless_it_ends_in_a_star() -> None:
    for word, kept in (("cat", True), ("cat*", False), ("concatenate", False), ("ten ate", True), ("con cat", True)):
        rule = Rule(("tags",), exclude=(word,))
        assert (judge({"tags": ["concatenate", "catalogue"]}, [rule]) is None) is kept, word


def test_signs_in_words_are_no_patterns() -> None:
    assert judge({"title": "C++ (1.0)"}, [Rule(("title",), include=("c++ (1.0)",))]) is None
    assert judge({"title": "Cxx 100"}, [Rule(("title",), include=("c++ (1.0)",))]) is not None


def write_sidecar(video: Path, content: Any) -> None:
    video.write_bytes(b"video")
    text = content if isinstance(content, str) else json.dumps(content)
    video.with_name(video.stem + ".info.json").write_text(text)


def test_dropped_videos_are_counted_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sidecar(tmp_path / "a.b.mp4", GOOD)
    write_sidecar(tmp_path / "movie.mp4", {**GOOD, "title": "platformer playthrough movie"})
    write_sidecar(tmp_path / "torn.mp4", '{"title": "plat')
    (tmp_path / "alone.mp4").write_bytes(b"video")
    with caplog.at_level(logging.WARNING):
        kept, dropped = filter_videos([tmp_path], PAPER_RULES)
    assert [chosen.path.name for chosen in kept] == ["a.b.mp4"]
    assert dropped == {"title must not have 'movie*'": 1, "damaged *.info.json": 1, "no *.info.json": 1}
    assert re.search("torn.info.json: cannot be read", caplog.text)


def test_a_sidecar_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.info.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.info\.json: cannot be read as JSON"):
        read_sidecar(tmp_path / "a.mp4")


def test_a_list_is_no_sidecar(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "a.mp4", [])
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        read_sidecar(tmp_path / "a.mp4")


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([rule._asdict() for rule in PAPER_RULES]))
    assert read_rules(path) == PAPER_RULES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "one rule or more"),
        ("[3]", "rule 1 must be an object"),
        ('[{"fields": ["title"], "includes": ["a"]}]', r"made of fields, include, exclude, got \['includes'\]"),
        ('[{"fields": ["name"], "include": ["a"]}]', r"rule 1: fields must be .*title.*, got \('name',\)"),
        ('[{"include": ["a"]}]', "rule 1: fields must be"),
        ('[{"fields": ["title"], "include": "movie"}]', "include must be a list of words, got 'movie'"),
        ('[{"fields": ["title"], "include": ["*"]}]', "include must be a list of words"),
        ('[{"fields": ["title"]}]', "includes or excludes"),
    ],
)
def test_invalid_rules_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rules(path)
