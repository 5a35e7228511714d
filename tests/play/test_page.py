"""The page in a real browser, on a real server, with the shipped world."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_gym.data.video import read_video
from genie_gym.models.loading import digest_checkpoint
from genie_gym.play.config import PlayConfig
from genie_gym.play.connection import Limits
from genie_gym.play.server import build_app
from genie_gym.play.setup import prepare_play
from genie_gym.play.trajectory import load_trajectory
from genie_gym.play.visitor import replay
from genie_gym.serving import load_world

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser to open the page in: apt-get install chromium"),
]
TIMEOUT_MS = 60_000
"""Milliseconds to wait for anything: a busy machine is slow."""


@pytest.fixture(scope="module")
def address(serve: Any) -> Iterator[str]:
    with serve(build_app(prepare_play(PlayConfig())), Limits()) as here:
        yield f"http://{here}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as library:
        opened = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def visit(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(address)
    page.wait_for_selector("#screen[data-steps]")
    return page


def pixels(page: Any) -> np.ndarray:
    """Return the pixels of the canvas, (H, W, 3) uint8."""
    shown = page.evaluate(
        "() => { const c = document.getElementById('screen');"
        "return [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    )
    return np.array(shown[2:], np.uint8).reshape(shown[0], shown[1], 4)[..., :3]


def steps(page: Any) -> int:
    return int(page.get_attribute("#screen", "data-steps"))


def settle(page: Any) -> None:
    """Pause, and wait until all messages are answered."""
    if page.get_attribute("#pause", "aria-pressed") == "false":
        page.keyboard.press("Space")
    page.wait_for_function("() => !isWaiting && queue.length === 0 && replayed.length === 0")


def save(page: Any, kind: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(f"#{kind}")
    path = folder / f"saved.{kind}"
    download.value.save_as(path)
    return path


def test_a_sketch_is_played_saved_and_replayed(browser: Any, address: str, tmp_path: Path) -> None:
    page = visit(browser, address)
    settle(page)
    box = page.locator("#sketch").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 250, box["y"] + 200, steps=5)
    page.mouse.up()
    before = pixels(page)
    page.click("#walk")
    page.wait_for_function("() => document.getElementById('screen').dataset.steps === '0'")
    sketch = pixels(page)
    assert not np.array_equal(sketch, before)
    page.locator("#screen").focus()
    page.keyboard.down("ArrowRight")
    page.keyboard.press("Space")  # resume
    page.wait_for_function("() => Number(document.getElementById('screen').dataset.steps) >= 8")
    settle(page)
    page.keyboard.up("ArrowRight")
    page.screenshot(path=tmp_path / "page.png")
    last, number = pixels(page), steps(page)
    assert not np.array_equal(last, sketch)
    trajectory = load_trajectory(save(page, "json", tmp_path))
    right = load_world("coinrun").config.action_names.index("right 1")
    assert trajectory.latent_actions == (right,) * number
    film = read_video(save(page, "mp4", tmp_path))
    assert np.array_equal(film[[0, -1]], np.stack([sketch, last]))
    assert np.array_equal(film, replay(load_world("coinrun"), digest_checkpoint("coinrun"), trajectory))
    page.click("#elsewhere")
    page.wait_for_function("() => document.getElementById('screen').dataset.steps === '0'")
    assert not np.array_equal(pixels(page), sketch)
    page.set_input_files("#again", tmp_path / "saved.json")
    page.wait_for_function(f"() => document.getElementById('screen').dataset.steps === '{number}'")
    settle(page)
    assert np.array_equal(pixels(page), last)
    page.close()


def test_two_visitors_do_not_affect_each_other(browser: Any, address: str, tmp_path: Path) -> None:
    pages = [visit(browser, address) for _ in range(2)]
    for page, key in zip(pages, "57", strict=True):
        page.keyboard.down(key)
    for page in pages:
        page.wait_for_function("() => Number(document.getElementById('screen').dataset.steps) >= 12")
    for page in pages:
        settle(page)
        trajectory = load_trajectory(save(page, "json", tmp_path))
        frames = replay(load_world("coinrun"), digest_checkpoint("coinrun"), trajectory)
        assert len(set(trajectory.latent_actions[-4:])) == 1
        assert np.array_equal(pixels(page), frames[-1])
        page.close()


def test_a_start_clip_and_a_driver_are_chosen(browser: Any, address: str) -> None:
    page = visit(browser, address)
    page.select_option("#driver", "random")
    page.wait_for_function("() => Number(document.getElementById('screen').dataset.steps) >= 2")
    settle(page)
    page.click("#starts-shown summary")
    page.click("[data-start='5']")
    page.wait_for_function("() => document.getElementById('screen').dataset.steps === '0'")
    world = load_world("coinrun")
    difference = np.abs(pixels(page).astype(int) - world.start_clips[5, -1].astype(int))
    assert difference.mean() < 10  # as the tokenizer reconstructs it
    assert np.abs(pixels(page).astype(int) - world.start_clips[6, -1].astype(int)).mean() > difference.mean()
    assert page.locator("#policy").is_disabled()
    page.close()


def test_a_changed_key_is_kept_by_the_browser(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = visit(context, address)
    settle(page)
    page.click("#keys-shown summary")
    page.click("[data-meaning='left']")
    page.keyboard.press("j")
    assert page.inner_text("[data-meaning='left'] kbd") == "j"
    page.reload()
    page.wait_for_selector("#screen[data-steps]")
    assert page.evaluate("() => [...'ja'].map((key) => world.names[chooseAction(new Set([key]), world.names)])") == [
        "left",
        "still 1",
    ]
    page.click("#keys-shown summary")
    page.click("#reset")
    assert page.inner_text("[data-meaning='left'] kbd") == "\N{LEFTWARDS ARROW} a"
    context.close()


def test_the_page_fits_a_narrow_screen_and_is_accessible(browser: Any, address: str) -> None:
    page = visit(browser, address, viewport={"width": 360, "height": 640})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, canvas')].filter(each =>"
        "!each.textContent.trim() && !each.getAttribute('aria-label') && !each.querySelector('img[alt]')"
        " && !(each.labels && each.labels.length)).length"
    )
    assert unnamed == 0
    page.keyboard.press("Tab")
    reached = set()
    for _ in range(40):
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.dataset.action"))
        page.keyboard.press("Tab")
    assert {"0", "7", "pause", "undo", "speed", "gif", "picture", "again", "walk"} <= reached
    page.close()
