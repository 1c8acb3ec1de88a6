"""The trained models that come with the package, by name."""

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"
WEIGHTS_SUFFIX = ".safetensors"
MANIFEST_SUFFIX = ".json"


def shipped_names() -> list[str]:
    """Names that ``import-weights`` takes instead of a file."""
    return sorted(path.stem for path in FOLDER.glob(f"*{MANIFEST_SUFFIX}"))


def shipped_file(name: str) -> Path | None:
    """The weights of a shipped model, whether they are still there or not; None where no model has that name."""
    return FOLDER / f"{name}{WEIGHTS_SUFFIX}" if name in shipped_names() else None
