"""Figure 10: what is kept of a picture, whether it obeys, the pictures drawn and read, and the figure's strips."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.lib import drawn_prompts
from experiments.lib.drawn_prompts import draw_figure_scene, draw_scene
from experiments.lib.prompt_scores import explain_with_intervals, score_kept, score_obedience
from experiments.lib.tables.paper import tabulate_prompts
from experiments.paper.figure10_prompts import PromptsFigure, lay_strips, read_pictures, score_prompts
from genie_gym.data.frames import write_image
from genie_gym.metrics.motion import play_each_action, track_player

PICTURES, COLOURS = 6, 16
WIDE = 64 + 2 * 32


class Scrolling:
    """A world of wide pictures of 4 x 4 patches: an action scrolls them by some pixels; a token is a patch's colour."""

    config = SimpleNamespace(num_latent_actions=4, tokenizer=SimpleNamespace(quantizer=SimpleNamespace(codes=256)))
    device = torch.device("cpu")

    def __init__(self, speeds: tuple[int, int, int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        palettes = torch.stack([torch.randperm(256, generator=generator)[:COLOURS] for _ in range(PICTURES)])
        patches = torch.randint(COLOURS, (PICTURES, 16, WIDE // 4), generator=generator)
        colours = palettes.gather(1, patches.flatten(1)).view_as(patches) / 255
        wide = colours.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
        self.wide, self.speeds = wide[:, None].expand(-1, 3, -1, -1), speeds
        self.tokenizer = SimpleNamespace(encode=self.encode)

    @property
    def prompts(self) -> Tensor:
        return self.wide[:, None, ..., 32:-32]

    @staticmethod
    def encode(videos: Tensor) -> Tensor:
        return (videos[:, :, 0, ::4, ::4] * 255).round().long().flatten(2)

    def rollout(self, prompts: Tensor, latent_actions: Tensor, seed: int) -> Tensor:
        """Scroll the wide pictures; a player that goes to the right sees what lies there."""
        went = torch.tensor(self.speeds)[latent_actions].cumsum(dim=1).tolist()
        frames = [
            torch.stack([self.wide[row, ..., 32 + x : 96 + x] for x in (0, *path)]) for row, path in enumerate(went)
        ]
        return torch.stack(frames)


def play(world: Scrolling, frames: int) -> tuple[Tensor, Tensor]:
    played = play_each_action(world, world.prompts, frames, seed=0)  # type: ignore[arg-type]
    return played, track_player(played)


def test_a_picture_that_has_moved_is_kept() -> None:
    world = Scrolling((-4, 4, 8, 0))
    kept = score_kept(world, *play(world, 2), [1, 2])  # type: ignore[arg-type]
    for frame, row in zip((1, 2), kept, strict=True):
        assert row["psnr"] == 100, "the pixels that are still in view are equal"
        assert row["tokens"] > 0.99
        assert row["in_view"] == pytest.approx(1 - frame * (4 + 4 + 8) / 4 / 64)
        assert row["other_psnr"] < 20
        assert row["other_tokens"] < 0.3


def test_an_unrelated_picture_is_kept_as_much_as_by_chance() -> None:
    world = Scrolling((0, 0, 0, 0))
    played, tracks = play(world, 1)
    played[:, :, 1] = played[:, :, 1].roll(3, dims=1)
    (kept,) = score_kept(world, played, tracks, [1])  # type: ignore[arg-type]
    assert kept["psnr"] == pytest.approx(kept["other_psnr"], abs=1)
    assert kept["tokens"] == pytest.approx(kept["other_tokens"], abs=0.1)


def test_motion_that_was_rounded_is_corrected() -> None:
    world = Scrolling((-4, 4, 8, 0))
    played, tracks = play(world, 2)
    drifted = tracks + torch.tensor([3.0, -2.0])
    assert score_kept(world, played, drifted, [2])[0]["psnr"] == 100  # type: ignore[arg-type]


def test_a_picture_out_of_view_is_not_compared() -> None:
    world = Scrolling((0, 0, 0, 0))
    played, tracks = play(world, 1)
    (kept,) = score_kept(world, played, tracks + 60, [1])  # type: ignore[arg-type]
    assert np.isnan(kept["psnr"])
    assert kept["in_view"] == 0


def test_a_world_that_does_what_its_actions_are_named_obeys() -> None:
    world = Scrolling((-4, 4, 0, 0))
    pictures = world.prompts[:, 0]
    scores = score_prompts(world, pictures, play(world, 2)[0], [1, 2], {"left": 0, "right": 1}, 0)  # type: ignore[arg-type]
    assert [each["share"] for each in scores["obedience"].values()] == [1, 1, 1]
    assert scores["obedience"]["apart"]["chance"] == pytest.approx(5 / 12), "ordered pairs with the first one leftmost"
    assert scores["obedience"]["left"]["chance"] == 1 / 4
    assert scores["x_explained"]["share"] == pytest.approx(1)
    assert scores["rebuilt_psnr"] == 100
    table = tabulate_prompts(
        {"command": "python", "commit": "0", "machine": {"cpu": "-"}, "rows": [{"kind": "walls", **scores}] * 2}
    )
    assert table.count("| walls | 6 |") == 2
    assert table.count("1.00 [0.61, 1.00] (0.42)") == 2


def test_a_world_that_swaps_left_and_right_scores_below_chance() -> None:
    went = play(Scrolling((4, -4, 0, 0)), 2)[1][:, :, -1, 0]
    for scored in score_obedience(went, left=0, right=1).values():
        assert scored["share"] == 0 < scored["chance"]


def test_a_world_that_ignores_its_actions_does_not_obey() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(-9, 10, (40,), generator=generator).double()
    alike = score_obedience(pictures.expand(8, 40), left=0, right=1)
    assert alike["apart"]["share"] == alike["apart"]["chance"] == 0
    assert alike["left"]["share"] == pytest.approx(alike["left"]["chance"]), "as often as under any other action"
    noise = torch.randint(-9, 10, (8, 400), generator=generator).double()
    for scored in score_obedience(noise, left=0, right=1).values():
        assert scored["interval"][0] < scored["chance"] < scored["interval"][1]


def test_intervals_hold_the_share_and_shrink_with_more_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    went = torch.randn(4, 320, 2, generator=generator) + torch.arange(4)[:, None, None]
    widths = []
    for pictures in (20, 320):
        for scored in explain_with_intervals(went[:, :pictures], seed=0).values():
            low, high = scored["interval"]
            assert low < scored["share"] < high
            widths.append(high - low)
    assert max(widths[2:]) < 0.5 * min(widths[:2])
    assert explain_with_intervals(went[:, :3], seed=0)["x_explained"]["interval"] is None, "too few to draw from"


def test_drawn_pictures_differ_and_repeat() -> None:
    for draw in (draw_scene, draw_figure_scene):
        pictures = [draw(number) for number in range(24)]
        assert all(picture.shape == (64, 64, 3) for picture in pictures)
        assert len({picture.tobytes() for picture in pictures}) == 24
        assert np.array_equal(draw(5), pictures[5])


def test_figures_stand_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [draw_figure_scene(number) for number in range(24)]
    monkeypatch.setattr(drawn_prompts, "_STYLES", (lambda *_: None,) * 4)
    for number, picture in enumerate(drawn):
        rows, columns = (picture != draw_figure_scene(number)).any(axis=2).nonzero()
        assert len(rows) > 4, number
        for places in (rows, columns):
            assert places.min() > 20, number
            assert places.max() < 44, number
            assert (places.min() + places.max()) / 2 == pytest.approx(31.5, abs=2), number


def test_pictures_are_read_by_kind(tmp_path: Path) -> None:
    for name in ("photo_cat.png", "photo_dog.png", "sketch_1.png"):
        write_image(tmp_path / name, draw_scene(len(name)))
    with pytest.raises(ValueError, match="'sketch': 1"):
        read_pictures(tmp_path, 64, 64)
    write_image(tmp_path / "sketch_2.png", draw_scene(2))
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = read_pictures(tmp_path, 32, 64)
    assert {kind: tuple(each.shape) for kind, each in pictures.items()} == {
        "photo": (2, 3, 32, 64),
        "sketch": (2, 3, 32, 64),
    }
    with pytest.raises(ValueError, match="must be a folder"):
        read_pictures(tmp_path / "nowhere", 64, 64)


def test_a_strip_shows_the_prompt_what_is_rebuilt_and_every_way() -> None:
    pictures = torch.arange(5.0).view(5, 1, 1, 1)
    played = (100 * torch.arange(1, 3).view(2, 1, 1) + 10 * torch.arange(4) + torch.arange(5)[:, None])[
        ..., None, None, None
    ]
    strips = [strip.flatten().tolist() for strip in lay_strips(pictures, played, [1, 3])]
    assert strips[1:] == [[2, 102, 112, 132, 212, 232], [4, 104, 114, 134, 214, 234]]
    assert len(strips) == 3


def test_a_world_without_left_and_right_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="action names must be with left and right among them, got"):
        PromptsFigure(checkpoint=str(tiny_checkpoint), out=tmp_path).run()
