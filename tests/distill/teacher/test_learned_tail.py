"""The learned tail: a teacher's mean distribution outside the top-k, by class groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import logitstore
from distill.teacher.learned_tail import TailSums, class_groups
from tests.programs import run, teacher_arguments


def test_the_tail_model_is_the_mean_outside_the_topk() -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(4000, 12)
    sums = TailSums(torch.arange(12))
    for part in logits.split(700):
        sums.add(part, topk=3)
    model = sums.model()
    probs = logits.double().softmax(dim=1)
    rest = probs.scatter(1, probs.topk(3, dim=1).indices, 0)
    mine = rest[probs.argmax(dim=1) == 5].sum(dim=0)
    np.testing.assert_allclose(np.exp(model.logprobs[5]), (mine / mine.sum()).numpy(), atol=0.01)
    np.testing.assert_allclose(np.exp(model.logprobs).sum(axis=1), 1, atol=1e-5)
    assert model.logprobs[5, 5] < -4  # The most probable class is never outside.


def test_groups_of_many_classes_follow_the_classifier() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 60)
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), head)
    centres = torch.randn(6, 16)
    with torch.no_grad():
        head.weight.copy_(centres[torch.arange(60) % 6] + 0.01 * torch.randn(60, 16))
    groups = class_groups(net, 60, max_groups=6)
    assert len(groups.unique()) == 6
    assert all(len(groups[n::6].unique()) == 1 for n in range(6))
    assert torch.equal(class_groups(net, 60), torch.arange(60))
    assert class_groups(torch.nn.Conv2d(3, 4, 1), 60, max_groups=6).tolist() == [n // 10 for n in range(60)]


def test_two_processes_learn_the_same_tail(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.zarr"
        words = teacher_arguments(
            data_path, teacher_weights, path, "store.epochs=1", "store.tail=learned", "store.topk=1"
        )
        done = run("save_logits", words, processes=processes)
        assert done.returncode == 0, done.stderr
        found.append(logitstore.open(path))
    one, two = (store.tail_model() for store in found)
    assert one and two
    np.testing.assert_allclose(one.logprobs, two.logprobs, atol=2e-3)
    rows = [store.read(epoch=0, rows=slice(None)) for store in found]
    assert np.array_equal(rows[0].logprobs, rows[1].logprobs)
