"""The data of a run, kept with it: a run that has begun goes on with the same data alone."""

import json
from collections.abc import Sequence
from pathlib import Path

from genie_gym.checks import require
from genie_gym.data.manifest import Chosen, digest_data
from genie_gym.system import replace_file
from genie_gym.training.checkpoint import has_run

_FILE = "data.json"


def keep_data(run: Path, chosen: Sequence[Chosen], paths: Sequence[Path]) -> None:
    """Write the digest of a run's data into its folder, or compare it if the run has begun.

    Files may have been moved, renamed in the same order, or copied since.

    Args:
        run: Folder of the run.
        chosen: Shards and videos in order.
        paths: What the user named, for the error.

    Raises:
        ValueError: If the run has begun with other data, or a file cannot be read.
    """
    file = run / _FILE
    try:
        now = {"digest": digest_data(chosen), "files": len(chosen), "paths": [str(path) for path in paths]}
        if has_run(run / "tokenizer") and file.is_file():
            began = json.loads(file.read_text(encoding="utf-8"))
            is_whole = isinstance(began, dict) and set(began) == set(now)
            require(is_whole, str(file), began, f"made of {', '.join(now)}; delete it if --data is that of the run")
            if began["digest"] != now["digest"]:
                raise ValueError(
                    f"run {run} was started with other data, {began['files']} files of {began['paths']}, and got "
                    f"{now['files']} of {now['paths']}; give --data as it was, or choose another --out"
                )
            return
        run.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read or written ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: is damaged ({error}); delete it if --data is that of the run") from error
