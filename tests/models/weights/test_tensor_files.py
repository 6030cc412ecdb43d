"""Files of tensors: the same content is the same bytes."""

from __future__ import annotations

from pathlib import Path

import torch

from distill.models.weights.tensor_files import file_sha256, read_header, read_tensors, write_tensors

TENSORS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(7), "c": torch.ones(4, dtype=torch.bfloat16)}
METADATA = {f"key {number}": 'é "quoted"\n\x01 \\ ' * number for number in range(12)} | {"été": "1"}


def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for number in range(4):
        turned = dict(reversed(METADATA.items())) if number % 2 else METADATA
        write_tensors(TENSORS, tmp_path / f"{number}.safetensors", metadata=turned)
        digests.add(file_sha256(tmp_path / f"{number}.safetensors"))
    assert len(digests) == 1
    assert read_header(tmp_path / "0.safetensors") == METADATA
    for name, tensor in read_tensors(tmp_path / "0.safetensors").items():
        assert torch.equal(tensor, TENSORS[name])


def test_a_file_without_metadata(tmp_path: Path) -> None:
    write_tensors(TENSORS, tmp_path / "a.safetensors", metadata={})
    assert read_header(tmp_path / "a.safetensors") == {}
    assert set(read_tensors(tmp_path / "a.safetensors")) == set(TENSORS)
