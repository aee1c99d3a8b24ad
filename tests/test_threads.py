"""Kernels on the threads of torch, and on their own where torch's are gone: in a forked child."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from pyimplicit.ops import vector_attention
from tests.helpers import randn

# Made once: in a forked child torch's own operators would wait for its threads for ever.
INPUTS = randn(3, 40, 9, 70), randn(3, 9, 70, seed=1), None, randn(3, 40, 9, 70, seed=2), None


def results():
    return vector_attention.attend(*INPUTS)[0]


@pytest.mark.parametrize("threads", [2, 5])
def test_a_forked_child_has_threads_of_its_own(threads):
    torch.set_num_threads(threads)
    expected = results()  # torch's threads are there now, and the child will not have them
    to_read, to_write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os.write(to_write, b"same" if results().numpy().tobytes() == expected.numpy().tobytes() else b"else")
        os._exit(0)
    os.close(to_write)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(to_read, "rb") as answer:
        assert answer.read() == b"same"


def test_from_several_python_threads_at_once():
    torch.set_num_threads(2)
    expected, found = results(), []
    workers = [threading.Thread(target=lambda: found.extend(results() for _ in range(20))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(torch.equal(one, expected) for one in found)


def test_the_number_of_threads_may_change():
    torch.set_num_threads(1)
    expected = results()
    for threads in (4, 2, 16, 3, 1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(results(), expected)
