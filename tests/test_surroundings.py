"""What a search changes in its process is as before once the block ends."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from nas.surroundings import one_blas_thread


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_has_one_thread_within_the_block_and_its_own_number_afterwards() -> None:
    assert np.eye(2) @ np.eye(2) is not None
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert set(blas_threads()) == {1}
        assert blas_threads() == before
        assert set(before) == {2}
