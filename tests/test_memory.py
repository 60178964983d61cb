"""The memory of `evaluate` does not grow with the images, but for a few numbers of each."""

import pytest

from benchmarks.memory.peak import peak_of
from benchmarks.synthetic import TARGET, Bag, write_audit

pytestmark = pytest.mark.slow
BAGS = {
    "gbm": Bag("location_scale", size=10, scores=3),
    "resnet": Bag("quantiles", size=10, scores=2),
}


def test_eight_times_the_images_take_no_more_than_a_fifth_more_memory(tmp_path):
    peaks = []
    for images in (6_000, 48_000):
        folder = tmp_path / str(images)
        write_audit(folder, images, BAGS)
        peaks.append(peak_of(["stages.evaluate", TARGET], folder).largest)
    assert peaks[1] < 1.2 * peaks[0]
