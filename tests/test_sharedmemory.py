"""Memory that processes share."""

import gc

import torch

from tokenloom.sharedmemory import objects_that_stay_shared, share, share_zeros


def is_shared(tensor: torch.Tensor) -> bool:
    """Return whether a tensor lies in shared memory; PyTorch leaves its own unannotated."""
    return bool(tensor.untyped_storage().is_shared())


def test_zeros_are_shared_and_on_the_cpu() -> None:
    """Whatever default device and mode the caller has set, they can be written to."""
    with torch.device("meta"), torch.inference_mode():
        tensor = share_zeros(2, 3, dtype=torch.int64)
    tensor[0, 1] = 7
    assert (True, "cpu") == (is_shared(tensor), tensor.device.type)
    assert [[0, 7, 0], [0, 0, 0]] == tensor.tolist()


def test_a_scalar_has_no_dimension() -> None:
    """No sizes give one number."""
    assert share_zeros(dtype=torch.int64).shape == ()


def test_sharing_twice_keeps_the_memory() -> None:
    """A tensor that is shared already is returned as it is."""
    tensor = share_zeros(2, dtype=torch.int64)
    assert share(tensor).data_ptr() == tensor.data_ptr()


def test_objects_are_collected_again_after_a_fork() -> None:
    """Whoever has frozen objects already keeps them so."""
    with objects_that_stay_shared():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0

    gc.freeze()
    try:
        with objects_that_stay_shared():
            assert gc.get_freeze_count() > 10_000
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
