"""The memory of `evaluate` is that of one column of z-scores a learner, however many were learnt."""

import pytest

from benchmarks.memory.peak import peak_of
from benchmarks.synthetic import TARGET, Bag, write_audit

pytestmark = pytest.mark.slow
BAGS = {
    "gbm": Bag("location_scale", size=10),
    "resnet": Bag("quantiles", size=10),
}


def test_eight_times_the_images_take_no_more_than_a_fifth_more_memory(tmp_path):
    peaks = []
    for images in (6_000, 48_000):
        folder = tmp_path / str(images)
        write_audit(folder, images, BAGS, scores=3)
        peaks.append(peak_of(["stages.evaluate", TARGET], folder).largest)
    assert peaks[1] < 1.2 * peaks[0]
