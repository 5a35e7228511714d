"""Checkpoints on the Hugging Face hub, by addresses ``hf://USER/REPO`` or ``hf://USER/REPO@REVISION``.

Of a repository, only safetensors files, config.json and the card README.md are ever fetched: no code, no pickle.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from genie_gym.checks import require
from genie_gym.configs import WorldConfig
from genie_gym.extras import need_extra
from genie_gym.models.listing import read_config
from genie_gym.real_actions import RealActionConfig
from genie_gym.system import list_files

_PREFIX = "hf://"
_REPOSITORY = r"[\w.-]+/[\w.-]+"
_FILES = ["*.safetensors", "config.json", "README.md"]
_ABOUT = "---\nlibrary_name: genie-gym\ntags:\n- world-model\n- genie\n- gymnasium\n- reinforcement-learning\n---\n"
"""Head of a card, by which the hub sorts and finds it."""


def is_address(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is named by its address on the hub."""
    return isinstance(name_or_path, str) and name_or_path.startswith(_PREFIX)


def require_own(name_or_path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a checkpoint that is to be changed lies on the hub."""
    require(not is_address(name_or_path), "checkpoint", name_or_path, "on disk to be changed: copy it there first")


@functools.cache
def fetch_checkpoint(address: str) -> Path:
    """Return the folder of a checkpoint of the hub, in the hub's cache, and fetch what is missing there.

    Each process asks once for each address. Without a network, what is in the cache is used.

    Raises:
        ValueError: If the address is invalid, there is no such repository or revision, it holds no world, or neither
            the hub nor a whole copy in the cache can be read.
        MissingExtraError: If huggingface_hub is not installed.
    """
    match = re.fullmatch(rf"{_PREFIX}({_REPOSITORY})(?:@(.+))?", address)
    if match is None:
        raise ValueError(f"checkpoint must be hf://USER/REPO or hf://USER/REPO@REVISION, got {address!r}")
    with need_extra("hub", "Checkpoints of the hub need huggingface_hub"):
        from huggingface_hub import hf_hub_download, snapshot_download
    with _explain(f"checkpoint {address!r} cannot be fetched"):
        config = Path(hf_hub_download(match[1], "config.json", revision=match[2]))
    read_config(config.parent)  # before gigabytes of another program's weights are fetched
    with _explain(f"checkpoint {address!r} cannot be fetched"):
        # The commit that the config is of: the repository may change in between.
        folder = snapshot_download(
            match[1],
            revision=config.parent.name,
            allow_patterns=_FILES,
            ignore_patterns="*/*",
            library_name="genie-gym",
        )
    return Path(folder)


def upload_checkpoint(folder: Path, repository: str, private: bool, token: str | None) -> str:
    """Upload a checkpoint in one commit, which deletes the weights of an earlier one from the repository.

    Args:
        folder: Folder of the checkpoint; its README.md is the card, and gets a head by which the hub finds it.
        repository: USER/REPO, created if it does not exist.
        private: Whether a repository that is created is private.
        token: Access token; by default the one that ``hf auth login`` or HF_TOKEN set.

    Returns:
        The address to load it by.

    Raises:
        ValueError: If the folder holds no world, the repository is no USER/REPO, or it cannot be written.
        MissingExtraError: If huggingface_hub is not installed.
    """
    repository = repository.removeprefix(_PREFIX)
    require(re.fullmatch(_REPOSITORY, repository) is not None, "repository", repository, "USER/REPO")
    with need_extra("hub", "Pushing to the hub needs huggingface_hub"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    config = read_config(folder)  # what is no world must not be uploaded as one
    api = HfApi(token=token, library_name="genie-gym")
    weights = list_files(folder, [".safetensors"])
    add: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path.name, path) for path in [folder / "config.json", *weights]
    ]
    add.append(CommitOperationAdd("README.md", _write_card(folder, config, repository).encode()))
    with _explain(f"repository {repository!r} cannot be written"):
        api.create_repo(repository, private=private, exist_ok=True)
        old = {name for name in api.list_repo_files(repository) if re.fullmatch(r"[^/]+\.safetensors", name)}
        remove = [CommitOperationDelete(name) for name in sorted(old - {path.name for path in weights})]
        api.create_commit(repository, [*add, *remove], commit_message="Upload a world with genie-gym")
    fetch_checkpoint.cache_clear()
    return f"{_PREFIX}{repository}"


def _write_card(folder: Path, config: WorldConfig, repository: str) -> str:
    """Return the text of a checkpoint's card for the hub: its own with a head, or a new one if it has none."""
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        return text if text.startswith("---\n") else _ABOUT + text
    kind = "real" if isinstance(config.latent_action_model, RealActionConfig) else "latent"
    size = f"{config.height} x {config.width} pixels and {config.num_latent_actions} {kind} actions"
    return (
        f"{_ABOUT}# {repository.split('/')[1]}\n\nA world learned from videos: frames of {size}, played as a Gymnasium "
        f'environment by genie-gym.\n\n```python\nimport gymnasium\n\nenv = gymnasium.make("genie_gym:Genie-v0", '
        f'checkpoint="{_PREFIX}{repository}")\n```\n'
    )


@contextlib.contextmanager
def _explain(failed: str) -> Iterator[None]:
    """Turn what huggingface_hub raises in the block into one line that begins with ``failed``."""
    from huggingface_hub import constants, errors

    # HfHubHTTPError's bases have the error of the HTTP library, which is another in each version.
    others: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *errors.HfHubHTTPError.__bases__)
    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(f"{failed}: its owner has to grant access, and `hf auth login` says who asks") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{failed}: there is no such repository, or `hf auth login` must be run first") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{failed}: there is no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        unreached = f"{constants.ENDPOINT} cannot be reached ({_write_line(error.__cause__ or error)})"
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreached
        raise ValueError(f"{failed}: {reason}, and the cache holds no whole copy") from error
    except errors.EntryNotFoundError as error:
        raise ValueError(f"{failed}: it has no config.json, so it is no world of genie-gym") from error
    except others as error:
        raise ValueError(f"{failed}: {_write_line(error)}") from error


def _write_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or repr(error)
