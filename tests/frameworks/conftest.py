"""What the tests of this layer share."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """One thread of torch's, put back afterwards.

    A small product waits longer for a second thread than it takes, on a busy machine many times as
    long; and a sum's last digits depend on how many there are.
    """
    if not find_spec("torch"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
