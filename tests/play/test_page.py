"""The page in a real browser, on a real server, with the shipped world."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch

from genie_gym.data.frames import to_float
from genie_gym.data.video import read_video
from genie_gym.envs.keys import SETTLING_STEPS, Keymap
from genie_gym.metrics.motion import estimate_shifts
from genie_gym.metrics.player_detector import load_detector
from genie_gym.models.loading import save_world
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.play.config import PlayConfig
from genie_gym.play.limits import Limits
from genie_gym.play.server import build_app
from genie_gym.play.setup import prepare_play
from genie_gym.play.trajectory import identify_checkpoint, load_trajectory
from genie_gym.play.visitor import replay
from genie_gym.serving import load_world

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser to open the page in: apt-get install chromium"),
]
TIMEOUT_MS = 300_000
"""Milliseconds after which something that is waited for is taken to hang: a busy machine is slow."""
DESK, PHONE = {"width": 1100, "height": 900}, {"width": 390, "height": 844}
"""Screens that the whole page fits on."""


@pytest.fixture(scope="module")
def address(serve: Any) -> Iterator[str]:
    with serve(build_app(prepare_play(PlayConfig())), Limits()) as here:
        yield f"http://{here}"


@pytest.fixture(scope="module")
def restless_address(serve: Any) -> Iterator[str]:
    with serve(build_app(prepare_play(PlayConfig(wait=False))), Limits()) as here:
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


def wait_for_steps(page: Any, least: int) -> None:
    page.wait_for_function(f"() => Number(document.getElementById('screen').dataset.steps) >= {least}")


def action_of(*keys: str) -> int:
    """Return the latent action that keys held together choose in the shipped world."""
    action = Keymap(load_world("coinrun").config.action_names).choose(keys)
    assert action is not None
    return action


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
    page.wait_for_function(
        "() => !isWaiting && document.getElementById('status').textContent.startsWith('The picture')"
    )
    sketch = pixels(page)
    assert not np.array_equal(sketch, before)
    page.locator("#screen").focus()
    page.keyboard.down("ArrowRight")
    page.keyboard.press("Space")  # resume
    wait_for_steps(page, 8)
    settle(page)
    page.keyboard.up("ArrowRight")
    page.screenshot(path=tmp_path / "page.png")
    last, number = pixels(page), steps(page)
    assert not np.array_equal(last, sketch)
    trajectory = load_trajectory(save(page, "json", tmp_path))
    assert trajectory.latent_actions == (action_of("right"),) * number
    film = read_video(save(page, "mp4", tmp_path))
    assert np.array_equal(film[[0, -1]], np.stack([sketch, last]))
    assert np.array_equal(film, replay(load_world("coinrun"), identify_checkpoint("coinrun"), trajectory))
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
        wait_for_steps(page, 12)
    for page in pages:
        settle(page)
        trajectory = load_trajectory(save(page, "json", tmp_path))
        frames = replay(load_world("coinrun"), identify_checkpoint("coinrun"), trajectory)
        assert len(set(trajectory.latent_actions[-4:])) == 1
        assert np.array_equal(pixels(page), frames[-1])
        page.close()


def test_a_start_clip_and_a_driver_are_chosen(browser: Any, address: str) -> None:
    page = visit(browser, address)
    page.select_option("#driver", "random")
    wait_for_steps(page, 2)
    settle(page)
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
    page.click("#keys-open")
    page.click("[data-meaning='left']")
    page.keyboard.press("j")
    assert page.inner_text("[data-meaning='left'] kbd") == "j"
    page.reload()
    page.wait_for_selector("#screen[data-steps]")
    chosen = "() => [...'ja'].map((key) => chooseAction(new Set([keys[key]].filter(Boolean)), world.names))"
    assert page.evaluate(chosen) == [action_of("left"), action_of()]
    page.click("#keys-open")
    page.click("#reset")
    assert page.inner_text("[data-meaning='left'] kbd") == "\N{LEFTWARDS ARROW} a"
    context.close()


@pytest.mark.parametrize("names", [("jump right", "stay", "jump", "low jump"), ("up 2", "right 1", "still 1", "up 1")])
def test_page_and_window_choose_the_same_actions(browser: Any, address: str, names: tuple[str, ...]) -> None:
    page, keymap = visit(browser, address), Keymap(names)
    for held in ([], ["up"], ["up", "right"], ["left"], ["left", "right"], ["up", "left"], ["down"]):
        chosen = page.evaluate("([held, names]) => chooseAction(new Set(held), names)", [held, list(names)])
        assert chosen == keymap.choose(held), held
    page.close()


def test_the_world_waits_for_a_key_which_lights_up_and_lets_a_jump_land(
    browser: Any, address: str, restless_address: str, tmp_path: Path
) -> None:
    page = visit(browser, address)
    page.wait_for_selector("#hint:not([hidden])")
    assert steps(page) == 0
    page.keyboard.down("ArrowUp")
    page.wait_for_selector("[data-key='up'].lit")
    page.wait_for_selector(f"[data-action='{action_of('up')}'].now")
    wait_for_steps(page, 3)
    page.keyboard.up("ArrowUp")
    page.wait_for_selector("#hint:not([hidden])")
    assert page.locator(".lit, .now").count() == 0
    actions = load_trajectory(save(page, "json", tmp_path)).latent_actions
    assert actions[0] == action_of("up")
    assert actions[-SETTLING_STEPS - 1 :] == (action_of("up"), *[action_of()] * SETTLING_STEPS)
    page.close()
    page = visit(browser, restless_address)
    wait_for_steps(page, 3)
    assert page.locator("#hint").is_hidden()
    page.close()


def test_two_fingers_hold_a_diagonal_and_a_short_touch_counts(browser: Any, address: str, tmp_path: Path) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = visit(context, address)
    page.tap("[data-key='right']")
    wait_for_steps(page, 1)
    boxes = [page.locator(f"#arrows [data-key='{way}']").bounding_box() for way in ("up", "left")]
    fingers = [{"x": box["x"] + 9, "y": box["y"] + 9, "id": number} for number, box in enumerate(boxes)]
    touch = context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers})
    page.wait_for_selector(f"[data-action='{action_of('up', 'left')}'].now")
    right = page.locator("#arrows [data-key='right']").bounding_box()
    fingers[1] |= {"x": right["x"] + 9, "y": right["y"] + 9}  # slides from left to right
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers})
    page.wait_for_selector(f"[data-action='{action_of('up', 'right')}'].now")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_selector("#hint:not([hidden])")
    assert load_trajectory(save_on_phone(page, tmp_path)).latent_actions[0] == action_of("right")
    context.close()


def save_on_phone(page: Any, folder: Path) -> Path:
    page.tap("#side-toggle")
    return save(page, "json", folder)


def test_a_recording_of_another_world_is_refused_by_name_and_play_goes_on(
    browser: Any, address: str, tmp_path: Path
) -> None:
    page = visit(browser, address)
    other = json.loads(save(page, "json", tmp_path).read_text()) | {"checkpoint": "abc", "checkpoint_name": "forest"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    page.set_input_files("#again", tmp_path / "other.json")
    page.wait_for_selector("#status.error")
    assert "trajectory needs the checkpoint 'forest' of digest 'abc'" in page.inner_text("#status")
    page.keyboard.down("ArrowRight")
    wait_for_steps(page, 2)
    page.close()


def scroll(frames: np.ndarray) -> int:
    """Return by how many pixels the level of (T, H, W, 3) frames has scrolled to the left."""
    images = to_float(frames)
    return -int(estimate_shifts(images[:-1], images[1:], reach=4)[:, 1].sum())


def most_open_clip() -> int:
    """Return the number of one of eight start clips, from which the world scrolls furthest while right is held."""
    world, held = load_world("coinrun"), 24
    chosen = np.linspace(0, len(world.start_clips) - 1, 8, dtype=int)
    clips = to_float(world.start_clips[chosen])
    actions = torch.full((len(clips), held), action_of("right"))
    with torch.inference_mode():
        rolled = world.rollout(clips, actions, 0)[:, -1 - held :]
    shifts = estimate_shifts(rolled[:, :-1].flatten(0, 1), rolled[:, 1:].flatten(0, 1), reach=4)
    return int(chosen[shifts[:, 1].view(len(clips), held).sum(dim=1).argmin()])


def test_a_hundred_frames_to_the_right_scroll_the_level_and_keep_the_player(
    browser: Any, address: str, tmp_path: Path
) -> None:
    page = visit(browser, address)
    page.select_option("#speed", "0")
    page.click(f"[data-start='{most_open_clip()}']")
    page.wait_for_selector("#screen[data-steps='0']")
    page.keyboard.down("ArrowRight")
    wait_for_steps(page, 100)
    settle(page)
    film = read_video(save(page, "mp4", tmp_path))[:101]
    assert scroll(film) >= 16  # until a wall is met, where the player stands
    assert load_detector().sees_player(to_float(film)[-20:]).all()
    page.close()


def is_shown(page: Any, selector: str) -> bool:
    """Return whether all elements of a selector lie whole on the screen, with nothing over their middle."""
    return bool(
        page.evaluate(
            """(selector) => {
            const isShown = (each) => {
                const box = each.getBoundingClientRect();
                const middle = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
                return box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight
                    && each.contains(middle);
            };
            const found = [...document.querySelectorAll(selector)];
            return found.length > 0 && found.every(isShown);
        }""",
            selector,
        )
    )


@pytest.mark.parametrize("screen", [DESK, PHONE, {"width": 360, "height": 640}, {"width": 1920, "height": 1080}])
def test_the_page_fits_the_screen(browser: Any, address: str, screen: dict[str, int]) -> None:
    page = visit(browser, address, viewport=screen)
    size = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [screen["width"], screen["height"]]
    for selector in ("#transport button", "#arrows .key", "#actions .key", "#strip"):
        assert is_shown(page, selector), selector
    assert page.locator("#screen").bounding_box()["width"] >= 256
    if not page.locator("#sketch").is_visible():
        page.click("#side-toggle")
    assert is_shown(page, "#paints button")
    if screen["height"] >= PHONE["height"]:  # a smaller one scrolls
        assert is_shown(page, "#walk, #clear, [for='picture'], #gif, [for='again']")
    page.close()


def test_the_page_is_accessible(browser: Any, address: str) -> None:
    page = visit(browser, address, viewport=DESK)
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, canvas')].filter(each =>"
        "!each.textContent.trim() && !each.getAttribute('aria-label') && !each.querySelector('img[alt]')"
        " && !(each.labels && each.labels.length)).length"
    )
    assert unnamed == 0
    page.keyboard.press("Tab")
    reached = set()
    for _ in range(50):
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.dataset.action"))
        page.keyboard.press("Tab")
    assert {"0", "7", "pause", "undo", "speed", "gif", "picture", "again", "walk"} <= reached
    page.close()


def test_a_wide_world_is_shown_undistorted_at_its_own_rate(
    browser: Any, serve: Any, tmp_path: Path, make_world: Callable[[str], GenieWorldModel]
) -> None:
    world = make_world("oblong")
    world.config = replace(world.config, fps=12)
    checkpoint = save_world(world, tmp_path / "wide")
    with serve(build_app(prepare_play(PlayConfig(checkpoint=str(checkpoint)))), Limits()) as here:
        page = visit(browser, f"http://{here}", viewport=DESK)
        assert pixels(page).shape == (45, 77, 3)
        page.wait_for_function("() => document.querySelector('#strip img').naturalWidth > 0")
        for selector in ("#screen", "#strip img >> nth=0", "#sketch"):
            box = page.locator(selector).bounding_box()
            assert box["width"] / box["height"] == pytest.approx(77 / 45, rel=0.03), selector
        assert page.evaluate("() => document.getElementById('speed').value") == "12"
        page.close()


def test_the_token_follows_the_hash_and_no_request_holds_it(browser: Any, serve: Any, tiny_checkpoint: Path) -> None:
    app = build_app(prepare_play(PlayConfig(checkpoint=str(tiny_checkpoint))), token="se+sa&me")
    with serve(app, Limits()) as here:
        page, asked = browser.new_page(), []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(f"http://{here}/#token={quote('se+sa&me', safe='')}")
        page.wait_for_selector("#screen[data-steps]")
        assert len(asked) > 5
        assert not [url for url in asked if "sa" in url.removeprefix(f"http://{here}/#")]
        page.goto("about:blank")
        page.goto(f"http://{here}/")
        page.wait_for_function("() => document.getElementById('status').textContent.includes('token is missing')")
        page.close()
