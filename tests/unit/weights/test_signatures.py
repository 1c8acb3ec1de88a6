"""Files that are no checkpoints say what they are; what one is goes by its first bytes, not by its name."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from crkd_core.errors import UsageError
from crkd_core.weights.checkpoint_files import read_checkpoint_file
from crkd_core.weights.signatures import checkpoint_format

STATE = {"layer.weight": torch.ones(100)}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
INDEX = json.dumps({"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()


def torch_bytes(tmp_path: Path) -> bytes:
    torch.save(STATE, tmp_path / "whole.pth")
    return (tmp_path / "whole.pth").read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_checkpoint_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["file.pth", "file.bin", "file.ckpt", "file.safetensors", "file"])
def test_the_format_is_seen_in_the_file_not_in_its_name(tmp_path, name):
    path = tmp_path / name
    for write, expected in (
        (lambda: torch.save(STATE, path), "torch"),
        (lambda: torch.save(STATE, path, _use_new_zipfile_serialization=False), "torch"),
        (lambda: path.write_bytes(safetensors.torch.save(STATE)), "safetensors"),
    ):
        write()
        assert checkpoint_format(path) == expected
        assert torch.equal(read_checkpoint_file(path).state["layer.weight"], torch.ones(100))


@pytest.mark.parametrize("size", [64, 128 - 8, 4000])
def test_safetensors_of_every_header_length_are_recognised(tmp_path, size):
    # A header of 128 bytes begins with the byte that a pickle begins with.
    path = tmp_path / "file.pth"
    for padding in range(16):
        data = safetensors.torch.save({"w" * (size + padding): torch.ones(1)})
        path.write_bytes(data)
        assert checkpoint_format(path) == "safetensors"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.pth", b"", "is empty (0 bytes)"),
        ("page.pth", b"<!DOCTYPE html><html><title>Virus scan warning</title>", "is a web page"),
        ("page.safetensors", b"\n  <HTML>login</HTML>", "is a web page"),
        ("xml.pth", b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        ("pointer.pth", LFS, "git lfs pull"),
        ("pointer.safetensors", LFS, "git lfs pull"),
        ("model.safetensors.index.json", INDEX, "only the index of weights"),
        ("answer.pth", b'{"error": "not found"}', "is JSON text"),
        ("packed.pth.gz", b"\x1f\x8b\x08\x00" + bytes(20), "is a gzip archive"),
        ("array.npy", b"\x93NUMPY\x01\x00" + bytes(20), "is a NumPy array"),
        ("noise.safetensors", b"12345678901234567890", "is no checkpoint of torch or safetensors"),
        ("text.pth", b"404: Not Found", "is no checkpoint of torch or safetensors"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in refusal(tmp_path / name)


@pytest.mark.parametrize("share", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_files_cut_off_anywhere_are_damaged(tmp_path, kind, share):
    path = tmp_path / "cut.pth"
    if kind == "safetensors":
        path.write_bytes(safetensors.torch.save(STATE))
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "is damaged or incomplete" in refusal(path)


def test_zip_archives_that_are_no_checkpoints(tmp_path):
    torch_bytes(tmp_path)
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip archive but no checkpoint (it holds readme.txt)" in refusal(tmp_path / "plain.zip")
    with zipfile.ZipFile(tmp_path / "around.zip", "w") as archive:
        archive.write(tmp_path / "whole.pth", "run/whole.pth")
    assert "unpack it and give run/whole.pth" in refusal(tmp_path / "around.zip")


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    torch_bytes(tmp_path)
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert "compressed after it was saved" in refusal(tmp_path / "small.pth")


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    folder, pipe = tmp_path / "folder.pth", tmp_path / "pipe.pth"
    folder.mkdir()
    assert "is a folder, not a checkpoint file; give the file in it with the weights" in refusal(folder)
    (folder / "epoch_20.pth").touch()
    assert "such as" in refusal(folder)
    assert "epoch_20.pth" in refusal(folder)
    os.mkfifo(pipe)
    assert "is a named pipe" in refusal(pipe)
    for device in ("/dev/null", "/dev/zero"):
        assert "is a device" in refusal(Path(device))


def test_paths_that_lead_nowhere(tmp_path):
    for path, words in (
        (tmp_path / "none.pth", "there is no checkpoint file"),
        (Path("https://example.org/model.pth"), "is an address, and crkd downloads nothing"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "none" / "file.pth", "there is no checkpoint file"),
    ):
        with pytest.raises(UsageError, match=words):
            read_checkpoint_file(path)
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(UsageError, match="cannot be read"):
        read_checkpoint_file(tmp_path / "loop.pth")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be read"):
        read_checkpoint_file(tmp_path / "file" / "model.pth")
