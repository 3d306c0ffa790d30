"""SAEs on the hub: which files of a repository are one SAE, and nothing but these downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sae_lab._errors import BadInput, Unavailable

WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin")
SETTINGS = (".json", ".yaml")
BESIDE = {"sparsity.safetensors", "activation_whitening.safetensors"}  # weights' companions, no SAE by themselves
LEFTOVERS = ("optimizer", "lr_scheduler", "trainer_state", "state.pt", "rank_", "activations_store", "training_args")


def download(repo_id: str, subfolder: str | None = None, revision: str | None = None) -> Path:
    """Fetch one SAE of the repository `repo_id` into the hub's cache; return the path of its folder or file.

    Raises
    ------
    BadInput
        There is no such repository or revision, or it holds several SAEs, or none, at that place.
    Unavailable
        The hub cannot be reached, and the files are not in its cache.
    """
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    place = (subfolder or "").strip("/")
    try:
        # (to list the tree would try again for half a minute where there is no network)
        names = [file.rfilename for file in huggingface_hub.model_info(repo_id, revision=revision).siblings or []]
        wanted = choose(names, place, repo_id)
        root = Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=wanted))
    except BadInput:
        raise
    except RevisionNotFoundError as error:
        raise BadInput(f"the repository {repo_id} has no revision {revision!r}: leave revision= out") from error
    except RepositoryNotFoundError as error:
        raise BadInput(
            f"{repo_id!r} is neither a folder here nor a repository of the hub that you may read: check the name"
        ) from error
    except Exception as error:  # whatever its HTTP library raises: without a network only the cache is left
        cached = _cached(repo_id, revision)
        if cached is None or not (cached / place).exists():
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise Unavailable(
                f"{repo_id!r} is no folder here and could not be fetched from the hub ({first}). Check the name "
                f"and the network, or give the folder of a saved SAE"
            ) from error
        root = cached
    return root / place


def choose(names: Sequence[str], place: str, repo_id: str) -> list[str]:
    """Which of a repository's files to fetch for the SAE at `place`, a folder ("" is the top) or a file."""
    folder = PurePosixPath(place).parent if place in names else PurePosixPath(place or ".")
    inside = [PurePosixPath(name) for name in names if not any(word in name for word in LEFTOVERS)]
    direct = [path for path in inside if path.parent == folder]
    settings = [path for path in inside if path.suffix in SETTINGS and path.parent in (folder, folder.parent)]
    if place in names:
        return [place, *map(str, settings)]
    weights = [path for path in direct if path.suffix in WEIGHTS]
    weights += [path for path in inside if path == folder / "checkpoints/final.safetensors"]  # Llama Scope
    main = [path for path in weights if path.name not in BESIDE]
    if len(main) == 1:
        return [*map(str, weights), *map(str, settings)]
    at = f"{repo_id}/{place}".rstrip("/")
    if main:
        raise BadInput(f"{at} holds {len(main)} SAEs: choose one with subfolder=, such as {_examples(main)}")
    deeper = [p for p in inside if p.suffix in WEIGHTS and p.name not in BESIDE and p.is_relative_to(folder)]
    folders = sorted({path.parent for path in deeper})
    hint = f"choose one with subfolder=, such as {_examples(folders)}" if folders else "check the name"
    raise BadInput(f"{at} holds no SAE at its top: {hint}")


def _examples(paths: Sequence[PurePosixPath]) -> str:
    return ", ".join(repr(str(path)) for path in paths[:8]) + (", ..." if len(paths) > 8 else "")


def _cached(repo_id: str, revision: str | None) -> Path | None:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, local_files_only=True))
    except Exception:  # not in the cache
        return None
