"""Download a pretrained model from the Hugging Face Hub, or from a mirror of it, into the Hub's own cache."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from qingformer.checkpoints.checkpoint import HUB_PREFIX
from qingformer.errors import CheckpointError

# org/name, and a branch, tag or commit behind @.
_SOURCE = re.compile(r"^hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?$")
_TIMEOUT = 20  # seconds for the list of files
_CONFIG_PATTERNS = ("config.json", "bert_config.json", "*config*.json")
_VOCABULARY_PATTERNS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
_WEIGHT_CHOICES = (  # the first choice that matches anything is taken, with all that it matches
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
    ("*.ckpt*.index", "*.ckpt*.data-*-of-*", "checkpoint"),
    ("*.safetensors",),
    ("*.bin",),
)


def download(source: str, revision: str | None = None, need: Sequence[str] = ()) -> Path:
    """Bring the files of "hf://org/name[@revision]" into the cache and return their folder.

    Only files at the top of the repository that are needed come: configuration, vocabulary, and one set of weights,
    safetensors before PyTorch before TensorFlow. What is fresh is compared with the hash that the Hub announces. The
    variables HF_ENDPOINT (a mirror), HF_HUB_OFFLINE, HF_HOME and HF_TOKEN work as everywhere; without a network the
    cache serves what it has.

    Raises:
        CheckpointError: malformed name, no such model, revision or file, access refused, no network and not cached, or
            a download that does not match its hash.
    """
    name, revision = _parse(source, revision)
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    if not _is_offline():
        try:
            # model_info asks once; the calls that list trees try again for 20 s before the cache would be used
            model = huggingface_hub.HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=_TIMEOUT)
            files = [sibling.rfilename for sibling in model.siblings or ()]
            chosen = choose(files, need)
            if not chosen:
                raise CheckpointError(f"{source}: no pretrained model there; it holds: {', '.join(sorted(files)[:20])}")
            return _fetch(source, name, revision, chosen, endpoint)
        except (HfHubHTTPError, HFValidationError, EntryNotFoundError) as problem:
            if not _is_outage(problem):
                raise _refusal(source, revision, endpoint, problem) from None
            reason = f"{endpoint} does not answer properly ({type(problem).__name__})"
        except json.JSONDecodeError:
            reason = f"{endpoint} answers with something else than JSON; is HF_ENDPOINT right?"
        except (HTTPError, OSError) as problem:
            reason = f"{endpoint} cannot be reached ({type(problem).__name__})"
    else:
        reason = "HF_HUB_OFFLINE is set"
    return _from_cache(source, name, revision, reason)


def choose(files: Sequence[str], need: Sequence[str] = ()) -> list[str]:
    """Return which of the repository's `files` to download for the kinds in `need` (empty: all kinds)."""
    top = sorted(file for file in files if "/" not in file and "\\" not in file)
    chosen: list[str] = []
    if not need or "config" in need:
        known = [file for file in _CONFIG_PATTERNS[:2] if file in top]
        chosen += known or [file for file in top if fnmatch(file, _CONFIG_PATTERNS[2])]
    if not need or "vocabulary" in need:
        chosen += [file for file in top if any(fnmatch(file, pattern) for pattern in _VOCABULARY_PATTERNS)]
    if not need or "weights" in need:
        for choice in _WEIGHT_CHOICES:
            found = [file for file in top if any(fnmatch(file, pattern) for pattern in choice)]
            if choice[0] in found or ("*" in choice[0] and found):
                chosen += found
                break
    return list(dict.fromkeys(chosen))


def _parse(source: str, revision: str | None) -> tuple[str, str]:
    match = _SOURCE.match(source)
    if match is None:
        raise CheckpointError(f"{source}: a Hub model is written {HUB_PREFIX}org/name or {HUB_PREFIX}org/name@revision")
    if revision and match["revision"] and revision != match["revision"]:
        raise CheckpointError(f"{source}: names one revision, the argument another ({revision})")
    return match["name"], revision or match["revision"] or "main"


def _is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _is_outage(problem: Exception) -> bool:
    """Whether the server failed, rather than answered that it will not give this."""
    if isinstance(problem, LocalEntryNotFoundError):
        return True
    response = getattr(problem, "response", None)
    return response is not None and response.status_code >= 500


def _refusal(source: str, revision: str, endpoint: str, problem: Exception) -> CheckpointError:
    if isinstance(problem, GatedRepoError):
        return CheckpointError(f"{source}: access is gated; accept its terms on {endpoint} and set HF_TOKEN")
    if isinstance(problem, RevisionNotFoundError):
        return CheckpointError(f"{source}: no revision {revision!r} (a branch, tag or commit)")
    if isinstance(problem, RepositoryNotFoundError):
        return CheckpointError(f"{source}: no such model on {endpoint}, or it is private: check the name, set HF_TOKEN")
    status = getattr(getattr(problem, "response", None), "status_code", None)
    if status in (401, 403):
        return CheckpointError(f"{source}: access refused by {endpoint} ({status}); set HF_TOKEN")
    return CheckpointError(f"{source}: {endpoint} answered: {str(problem).splitlines()[0][:200]}")


def _fetch(source: str, name: str, revision: str, files: Sequence[str], endpoint: str) -> Path:
    folders = set()
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(name, file, revision=revision)
        path = Path(huggingface_hub.hf_hub_download(name, file, revision=revision, endpoint=endpoint))
        if not (isinstance(cached, str) and os.path.realpath(cached) == os.path.realpath(path)):
            _check_hash(source, path)
        folders.add(path.parent)
    # Every commit has a folder of its own: two of them mean that the branch moved between two files.
    if len(folders) > 1:
        raise CheckpointError(f"{source}: the model changed while it was downloaded; run again")
    return folders.pop()


def _check_hash(source: str, path: Path) -> None:
    """Compare a fresh file with the hash that is its name in the cache: SHA-256, or SHA-1 of a git blob."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        # The cache names files of Git LFS by the SHA-256 of their content, others by the hash of the Git blob.
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return
    with open(blob, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != blob.name:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise CheckpointError(f"{source}: {path.name} arrived damaged (its hash differs) and was removed; run again")


def _from_cache(source: str, name: str, revision: str, reason: str) -> Path:
    root = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    reference = root / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = root / "snapshots" / commit
    if not folder.is_dir():
        raise CheckpointError(f"{source}: {reason}, and the cache {root.parent} does not have it at {revision!r}")
    return folder
