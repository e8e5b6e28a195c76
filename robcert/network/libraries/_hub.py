"""A folder of a library of networks: on this disk, or of the Hugging Face hub, from its cache or downloaded.

Read are ``config.json``, ``preprocessor_config.json`` and weights in safetensors: nothing that can run code.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robcert.errors import EvaluationError, UsageError, first_line
from robcert.network.libraries._packages import Access, package
from robcert.network.weights import read_safetensors

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys of a config.json that name Python code of the repository."""


@dataclass(frozen=True)
class Folder:
    """The files of one network.

    Attributes:
        where: how a message calls it.
        config: config.json.
        processor: preprocessor_config.json; None where there is none.
        files: of the weights.
        name: how a table calls it.
    """

    where: str
    config: Mapping[str, Any]
    processor: Mapping[str, Any] | None
    files: tuple[Path, ...]
    name: str

    @property
    def place(self) -> str:
        """The file of the weights; where there are several, their folder."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the files.

        Raises:
            EvaluationError: a file is damaged, or two hold a tensor of one name.
        """
        found: dict[str, Tensor] = {}
        for path in self.files:
            some = read_safetensors(path)
            if twice := found.keys() & some.keys():
                raise EvaluationError(f"{self.where}: two files hold the tensor {min(twice)}")
            found |= some
        return found


def local(path: Path) -> Folder:
    """Return the folder of a library on this disk.

    Raises:
        EvaluationError: its files are missing, damaged, or name code.
    """

    def there(name: str) -> Path | None:
        return path / name if (path / name).is_file() else None

    if there(WEIGHTS) is None and there(INDEX) is None:
        pickles = [name for name in ("pytorch_model.bin", "model.bin", "tf_model.h5") if there(name)]
        held = f"only {pickles[0]}, which is no safetensors" if pickles else "no weights"
        raise EvaluationError(f"{path} holds config.json and {held}", _SAFE)
    return _read(str(path), path.resolve().name, there)


def repository(name: str, access: Access) -> Folder:
    """Return a repository of the hub, "ORG/REPO" or "ORG/REPO@REVISION".

    Raises:
        UsageError: the name is none.
        EvaluationError: it is not in the cache and may not be downloaded; there is no such repository; its files are
            missing, damaged, or name code.
    """
    repo, _, revision = name.partition("@")
    hub: Any = package("huggingface_hub", f"hf:{name}")

    def fetched(file: str) -> Path | None:
        errors = hub.errors
        try:
            return Path(
                hub.hf_hub_download(repo, file, revision=revision or None, local_files_only=not access.download)
            )
        except hub.errors.HFValidationError:
            raise UsageError(f"{repo!r} is no name of a repository", "e.g. hf:microsoft/resnet-50") from None
        except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
            if access.download:
                raise _unreachable(repo, error) from None
            return None
        except errors.EntryNotFoundError:
            return None
        except errors.RepositoryNotFoundError:
            raise EvaluationError(f"the hub has no repository {repo!r}, or it is private", _cached(hub, repo)) from None
        except errors.GatedRepoError:
            raise EvaluationError(
                f"{repo} asks its users to accept terms", "Accept them on its page and log in: hf auth login"
            ) from None
        except Exception as error:  # the network may fail in many ways
            raise _unreachable(repo, error) from error

    if fetched("config.json") is None:
        if access.download:
            raise EvaluationError(f"{repo} has no config.json, so it is no model of transformers or timm", _SAFE)
        raise EvaluationError(
            f"{repo} is not on this machine (the cache is {hub.constants.HF_HUB_CACHE}), and nothing is downloaded "
            "unasked",
            f"Add --download.{_cached(hub, repo)}",
        )
    if fetched(WEIGHTS) is None and fetched(INDEX) is None:
        raise EvaluationError(
            f"{repo} {'has no' if access.download else 'is in the cache without its'} {WEIGHTS}",
            _SAFE if access.download else "Add --download.",
        )
    return _read(repo, repo.rpartition("/")[2], fetched)


_SAFE = (
    "robcert reads safetensors only, since a pickle can run code: in Python, load it where you trust it and save it "
    "again with model.save_pretrained(FOLDER)."
)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the table in a JSON file.

    Raises:
        EvaluationError: it is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is not JSON: {first_line(error)}", "Download or write it again.") from None
    if not isinstance(found, dict):
        raise EvaluationError(f"{path} holds a {type(found).__name__}, expected a table")
    return found


def _read(where: str, name: str, find: Callable[[str], Path | None]) -> Folder:
    config, processor, weights, index = map(find, ("config.json", "preprocessor_config.json", WEIGHTS, INDEX))
    assert config is not None
    settings = read_json(config)
    if code := [key for key in _CODE if settings.get(key)]:
        raise EvaluationError(
            f"{where} names Python code of its own ({code[0]} in config.json), and robcert runs no code of a file",
            "Load it in Python where you trust it, and give robcert the module, or an export to ONNX or .pt2.",
        )
    files = [weights] if weights is not None else [_part(where, find, part) for part in _parts(where, index)]
    return Folder(where, settings, None if processor is None else read_json(processor), tuple(files), name)


def _parts(where: str, index: Path | None) -> list[str]:
    """The names of the files of weights in an index."""
    assert index is not None
    table = read_json(index).get("weight_map")
    names = sorted({str(value) for value in table.values()}) if isinstance(table, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise EvaluationError(f"{where}: {INDEX} names no files of safetensors beside it", _SAFE)
    return names


def _part(where: str, find: Callable[[str], Path | None], name: str) -> Path:
    if (path := find(name)) is None:
        raise EvaluationError(f"{where}: {name} is missing", "Download it again, or add --download.")
    return path


def _unreachable(repo: str, error: BaseException) -> EvaluationError:
    return EvaluationError(
        f"{repo} could not be downloaded: {first_line(error)}",
        "Is there a connection, and is HF_HUB_OFFLINE unset? A folder that was downloaded elsewhere works as a path.",
    )


def _cached(hub: Any, repo: str) -> str:
    """Return a suggestion of a repository in the cache whose name is close; "" where none is."""
    try:
        known = [info.repo_id for info in hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos]
    except Exception:  # there is no cache yet
        return ""
    close = difflib.get_close_matches(repo, known, n=1, cutoff=0.6)
    return f" In the cache is {close[0]!r}: did you mean that?" if close else ""
