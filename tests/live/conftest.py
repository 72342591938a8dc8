"""One small detector for all tests of this folder that only need any."""

import pytest

from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.live.bundle import Bundle
from tests.live.fleet import small_bundle


@pytest.fixture(scope="session")
def small() -> tuple[Experiment, Bundle]:
    return small_bundle()


@pytest.fixture(scope="session")
def bundle(small) -> Bundle:
    return small[1]
