"""What several tests of running a study share."""

from collections.abc import Iterator

import pytest

from nas.running import architecture_features
from nas.samplers import pareto_sampler


@pytest.fixture(scope="module")
def small_pools() -> Iterator[None]:
    """Pools of a tenth of their size: each sampler draws its own anew, and some tests make hundreds of samplers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in {"BASE_POOL": 60, "FRESH": 20, "NEIGHBOURS": 20}.items():
            patch.setattr(pareto_sampler, name, size)
        patch.setattr(architecture_features, "SAMPLES", 50)
        yield
