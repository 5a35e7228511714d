"""The token cache changes no weight, encodes no clip twice, and reads no entry that was written only in part."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from genie_gym.configs import TrainConfig
from genie_gym.data.clips import Batch, ClipDataset
from genie_gym.data.shards import Recording, write_shard
from genie_gym.models.video_tokenizer import VideoTokenizer
from genie_gym.models.world_model import GenieWorldModel
from genie_gym.presets import PRESETS
from genie_gym.training import run
from genie_gym.training.checkpoint import RUN_FILE
from genie_gym.training.loop import Batches, Phase
from genie_gym.training.run import clips
from genie_gym.training.token_cache import TokenCache, is_worthwhile
from genie_gym.training.world import train_world

CONFIG = TrainConfig(
    train_steps=14, batch_size=6, clip_length=5, precision="float32", checkpoint_every=4, log_every=3, picture_every=0
)
"""84 draws from 28 clips: three epochs."""


@pytest.fixture
def dataset(tmp_path: Path) -> ClipDataset:
    """28 clips of noise, in two episodes."""
    frames = np.random.default_rng(0).integers(256, size=(36, 64, 64, 3), dtype=np.uint8)
    starts = np.isin(np.arange(36), (0, 20))
    zeros = [np.zeros(36, dtype=dtype) for dtype in (np.int64, np.uint8, np.int32, np.float32)]
    recording = Recording(frames, starts, *zeros)
    write_shard(tmp_path / "shard.h5", recording, ["noise"])
    return ClipDataset(tmp_path / "shard.h5", clip_length=5)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of clips that each call of the tokenizer encoded so far."""
    counts: list[int] = []
    real = VideoTokenizer.encode
    monkeypatch.setattr(
        VideoTokenizer, "encode", lambda self, videos: (counts.append(len(videos)), real(self, videos))[1]
    )
    return counts


def batch_of(dataset: ClipDataset, *numbers: int) -> Batch:
    videos = np.stack([dataset[number] for number in numbers])
    return Batch(torch.from_numpy(videos).movedim(-1, 2) / 255, torch.tensor(numbers))


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / RUN_FILE)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["additive", "fsq", "token-lam", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tokens_do_not_depend_on_the_rest_of_the_batch(
    make_world: Callable[[str], GenieWorldModel], random_videos: Any, kind: str, precision: str
) -> None:
    """In batches of the same shape."""
    tokenizer, videos = make_world(kind).tokenizer, random_videos(9, 5)
    tokenizer.set_precision(precision)
    expected = tokenizer.encode(videos)
    assert expected.unique().numel() > 8
    for order in ([4] * 9, [8, 0, 0, 0, 0, 0, 0, 0, 0], [8, 7, 6, 5, 4, 3, 2, 1, 0]):
        assert torch.equal(tokenizer.encode(videos[order]), expected[order])


@pytest.mark.parametrize(("kind", "precision"), [("additive", "float32"), ("token-lam", "bfloat16")])
def test_the_cache_changes_nothing(
    dataset: ClipDataset, variants: Any, tmp_path: Path, encoded: list[int], kind: str, precision: Any
) -> None:
    """Three epochs without the cache, with it, and with it in three parts give equal weights and moments."""
    config = dataclasses.replace(CONFIG, precision=precision)
    calls = {}

    def train(name: str, has_cache: bool, stop_before: tuple[int, ...] = ()) -> dict[str, Tensor]:
        for stop in (*stop_before, None):
            torch.manual_seed(0)
            world = GenieWorldModel(variants[kind])
            cache = TokenCache(tmp_path / name, world.tokenizer, dataset, config) if has_cache else None
            drawn = clips(dataset, config) if stop is None else unplugged(clips(dataset, config), stop)
            encoded.clear()
            try:
                train_world(world, Phase(drawn, config, tmp_path / name, progress=False), cache)
            except InterruptedError:
                assert stop is not None
            calls[name] = sum(encoded)
        return weights(tmp_path / name)

    plain, cached, broken = train("plain", False), train("cached", True), train("broken", True, (6, 11))
    assert same(plain, cached)
    assert same(plain, broken)
    assert calls["cached"] < 0.75 * calls["plain"]
    assert calls["broken"] < 0.5 * calls["cached"]  # tokens of the interrupted parts are still there


def unplugged(drawn: Batches, before: int) -> Batches:
    def draw(first: int, number: int) -> Iterator[Batch]:
        for index, batch in enumerate(drawn(first, number), start=first):
            if index == before:
                raise InterruptedError
            yield batch

    return draw


def test_a_cached_clip_is_not_encoded_again(
    dataset: ClipDataset, tiny_world: GenieWorldModel, tmp_path: Path, encoded: list[int]
) -> None:
    def opened() -> TokenCache:
        return TokenCache(tmp_path / "run", tiny_world.tokenizer, dataset, CONFIG)

    for numbers, calls in [((0, 27, 5), [3]), ((5, 0, 5), []), ((0, 9, 27), [3]), ((9, 9, 9), [])]:
        encoded.clear()
        tokens = opened().encode(batch_of(dataset, *numbers))
        assert encoded == calls
        assert torch.equal(tokens, tiny_world.tokenizer.encode(batch_of(dataset, *numbers).videos))
    assert tokens.dtype == torch.int64
    assert opened().path.stat().st_size == 28 * 5 * 16 * 2


@pytest.mark.parametrize("kept", [0, 1, 2, 80, 159])
def test_an_incomplete_entry_is_never_read(
    dataset: ClipDataset, tiny_world: GenieWorldModel, tmp_path: Path, kept: int
) -> None:
    """Whatever part of clip 3's 160 bytes reached the disk, it is encoded again; a truncated file is extended."""
    cache = TokenCache(tmp_path / "run", tiny_world.tokenizer, dataset, CONFIG)
    expected = cache.encode(batch_of(dataset, 2, 3, 4))
    whole = cache.path.read_bytes()
    for damaged in (whole[: 3 * 160 + kept] + bytes(160 - kept) + whole[4 * 160 :], whole[: 3 * 160 + kept]):
        cache.path.write_bytes(damaged)
        again = TokenCache(tmp_path / "run", tiny_world.tokenizer, dataset, CONFIG)
        assert torch.equal(again.encode(batch_of(dataset, 2, 3, 4)), expected)
        assert again.path.read_bytes() == whole


def test_nothing_is_written_if_encoding_fails(
    dataset: ClipDataset, tiny_world: GenieWorldModel, tmp_path: Path
) -> None:
    cache = TokenCache(tmp_path / "run", tiny_world.tokenizer, dataset, CONFIG)
    batch = batch_of(dataset, 1, 2)
    with pytest.raises(ValueError, match="videos must be"):
        cache.encode(batch._replace(videos=batch.videos[..., :32]))
    assert not any(cache.path.read_bytes())


def test_another_tokenizer_or_dataset_gets_a_new_file(
    dataset: ClipDataset, make_world: Callable[[str], GenieWorldModel], tmp_path: Path
) -> None:
    tokenizer = make_world("additive").tokenizer
    paths = [TokenCache(tmp_path / "run", tokenizer, dataset, CONFIG).path]

    def opened(dataset: ClipDataset, config: TrainConfig) -> None:
        paths.append(TokenCache(tmp_path / "run", tokenizer, dataset, config).path)
        assert list((tmp_path / "run").iterdir()) == paths[-1:]

    opened(dataset, dataclasses.replace(CONFIG, train_steps=99))
    assert paths[1] == paths[0]  # does not affect tokens
    opened(dataset, dataclasses.replace(CONFIG, precision="bfloat16"))
    opened(ClipDataset(tmp_path / "shard.h5", clip_length=5, frame_step=2), CONFIG)
    with torch.no_grad():
        tokenizer.quantizer.codebook[0, 0] += 1e-3
    opened(dataset, CONFIG)
    with h5py.File(tmp_path / "shard.h5", "r+") as file:
        file.attrs["changed"] = True
    opened(ClipDataset(tmp_path / "shard.h5", clip_length=5), CONFIG)
    assert len(set(paths)) == 5


def test_a_cache_is_worthwhile_if_clips_repeat(dataset: ClipDataset) -> None:
    assert is_worthwhile(dataset, dataclasses.replace(CONFIG, train_steps=7, batch_size=4))
    assert not is_worthwhile(dataset, dataclasses.replace(CONFIG, train_steps=9, batch_size=3))


@pytest.mark.parametrize(("batch_size", "files"), [(1, 0), (14, 1)])
def test_train_preset_decides_whether_to_cache(
    dataset: ClipDataset, tmp_path: Path, batch_size: int, files: int
) -> None:
    tiny = PRESETS["tiny"]
    short = dataclasses.replace(tiny.tokenizer_training, train_steps=2, clip_length=5, picture_every=0)
    preset = dataclasses.replace(
        tiny, tokenizer_training=short, world_training=dataclasses.replace(short, batch_size=batch_size)
    )
    assert run.train_preset(preset, dataset, tmp_path / "run", progress=False) is not None
    assert len(list((tmp_path / "run" / "world").glob("tokens-*"))) == files
