"""Telling from its first bytes what a file is, before anything tries to load it."""

import stat
import struct
import zipfile
from pathlib import Path
from typing import Literal

from crkd_core.errors import UsageError
from crkd_core.weights.catalogue import shipped_names

FileFormat = Literal["torch", "safetensors"]

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
NEEDS_CODE = (
    "was not opened: it holds more than tensors and plain values, and loading that would execute code from the file; "
    "ask for a file with the state dict alone, or save one where you trust the code"
)
_HEAD_BYTES = 1024
_LENGTH = struct.Struct("<Q")
_LFS = b"version https://git-lfs"
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")
_OTHERS = {
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF document",
}
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def checkpoint_format(path: Path) -> FileFormat:
    """How a checkpoint file is written, whatever its name ends with.

    Raises:
        UsageError: there is no such file, or it is none that can hold weights; says what it is instead.
    """
    size = _size_of_file(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    if not head:
        raise UsageError(f"{path} is empty (0 bytes): a download that never began; download or copy it again")
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return "torch"
    if len(head) > _LENGTH.size and head[_LENGTH.size : _LENGTH.size + 1] == b"{":
        (length,) = _LENGTH.unpack_from(head)
        if length + _LENGTH.size > size:
            raise damaged(path, f"its header should have {length} bytes, the whole file has {size}")
        return "safetensors"
    if head[0] == 0x80:  # a pickle of protocol 2 or later: torch.save before 1.6
        return "torch"
    raise UsageError(f"{path} {_what_it_is(head)}")


def damaged(path: Path, detail: str = "") -> UsageError:
    """The refusal of a file that is a checkpoint by its first bytes and cannot be read."""
    reason = f" ({detail})" if detail else ""
    return UsageError(f"{path} is damaged or incomplete{reason}; download or copy it again")


def _size_of_file(path: Path) -> int:
    text = str(path)
    if text.startswith(("http:/", "https:/")):
        raise UsageError(f"{text} is an address, and crkd downloads nothing; download the file and give its path")
    try:
        status = path.stat()
    except FileNotFoundError:
        shipped = f", or a shipped model: {', '.join(shipped_names())}" if shipped_names() else ""
        raise UsageError(
            f"there is no checkpoint file {path}; give the path of a .pth, .pt or .safetensors file{shipped}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read: {reason}; give the path of a checkpoint file") from None
    if stat.S_ISDIR(status.st_mode):
        inside = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES)
        example = f", such as {inside[0]}" if inside else " with the weights"
        raise UsageError(f"{path} is a folder, not a checkpoint file; give the file in it{example}")
    for applies, kind in _KINDS:
        if applies(status.st_mode):
            raise UsageError(f"{path} is {kind}, not a checkpoint file; save the weights as a file and give its path")
    return status.st_size


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise damaged(path, "the archive's directory, its end, is not there") from None
    names = [entry.filename for entry in entries]
    endings = {name.rpartition("/")[2] for name in names}
    if "data.pkl" not in endings:
        inner = next((name for name in names if name.endswith(SUFFIXES)), None)
        remedy = f"unpack it and give {inner}" if inner else "give a .pth, .pt or .safetensors file"
        shown = ", ".join(names[:3]) or "nothing"
        raise UsageError(f"{path} is a zip archive but no checkpoint (it holds {shown}); {remedy}")
    if "constants.pkl" in endings:
        raise UsageError(f"{path} {NEEDS_CODE}")
    # torch.save never compresses; what does can claim any size once unpacked.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UsageError(
            f"{path} was compressed after it was saved, which torch.save never does; unpack it with the tool that "
            "packed it, or save the weights again"
        )


def _what_it_is(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_LFS):
        return "is a Git LFS pointer, not the weights themselves; fetch them with: git lfs pull"
    if text.lower().startswith(_PAGES):
        return (
            "is a web page, not a checkpoint: the server answered with a login or warning page; open the address in "
            "a browser and download the file itself"
        )
    if text[:1] in (b"{", b"["):
        if b'"weight_map"' in head or b'"metadata"' in head:
            return "is only the index of weights that lie in several files; give one file that holds them all"
        return "is JSON text, not a checkpoint; give a .pth, .pt or .safetensors file"
    kind = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)
    if kind:
        return f"is {kind}, not a checkpoint; unpack or convert it and give a .pth, .pt or .safetensors file"
    return "is no checkpoint of torch or safetensors, or damaged from its first byte; download or copy it again"
