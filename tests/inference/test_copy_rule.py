"""The rule that names members which a sample comes nearer to than auxiliary images explain."""

import numpy as np
import pytest
from scipy.stats import binomtest

from leakgauge.features import image_features
from leakgauge.inference.copies import (
    Search,
    feature_distances,
    find_copies,
    pixel_distances,
    search,
    swapped_p_values,
    usual,
)

ROLE = np.array(["member", "member", "auxiliary", "auxiliary", "holdout"])
DISTANCES = np.array([[1.0, 4, 2, 8, 6], [6, 3, 9, 12, 5]])  # of 2 samples to 5 images


def by_hand() -> Search:
    return search(lambda rows: DISTANCES[rows], 2, ROLE, neighbours=2)


def of_scores(score: np.ndarray, ratio: np.ndarray, image: np.ndarray) -> Search:
    return Search(score, np.zeros(len(score), int), image, ratio, {}, {})


def planted(seed: int, members: int = 80, auxiliary: int = 160, copied: int = 0) -> tuple[np.ndarray, ...]:
    """(N, 1, 6, 6) images of a mixture, their roles, and 120 samples, of which 40 are of the `copied` first members."""
    rng = np.random.default_rng(seed)
    role = np.repeat(["member", "auxiliary", "holdout"], [members, auxiliary, 100])
    centres = np.random.default_rng(0).uniform(60, 190, (8, 1, 6, 6))

    def drawn(count: int) -> np.ndarray:
        return centres[rng.integers(8, size=count)] + 25 * rng.standard_normal((count, 1, 6, 6))

    pool, made = (np.clip(drawn(count), 0, 255).astype(np.uint8) for count in (len(role), 120))
    if copied:
        noisy = pool[np.arange(40) % copied] + 2 * rng.standard_normal((40, 1, 6, 6))
        made[:40] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pool, role, made


def searches(pool: np.ndarray, role: np.ndarray, made: np.ndarray) -> dict[str, Search]:
    features = feature_distances(image_features(made), image_features(pool))
    by = {"pixels": pixel_distances(made, pool), "features": features}
    return {name: search(one, len(made), role, 50) for name, one in by.items()}


def test_scores_are_the_smallest_ratio_to_the_mean_of_the_nearest_by_hand():
    found = by_hand()
    assert np.allclose(found.score, [1 / 1.5, 3 / 4, 2 / 1.5, 12 / 4, 5 / 4])  # units 1.5 and 4
    assert found.sample.tolist() == [0, 1, 0, 1, 1]
    assert found.image.tolist() == [0, 1]
    assert np.allclose(found.ratio, [1 / 1.5, 3 / 4])
    assert found.nearest["member"].tolist() == [0, 1]
    assert found.nearest["auxiliary"].tolist() == [2, 2]
    assert found.distance["auxiliary"].tolist() == [2, 9]


def test_of_many_samples_the_one_named_beside_an_image_has_its_score():
    distances = np.random.default_rng(0).uniform(1, 9, (150, 5))
    found = search(lambda rows: distances[rows], 150, ROLE, neighbours=3)
    ratio = distances / usual(distances, 3)[:, None]
    assert np.array_equal(found.score, ratio.min(axis=0))
    assert found.sample.tolist() == ratio.argmin(axis=0).tolist()
    assert found.image.tolist() == ratio.argmin(axis=1).tolist()


def test_p_values_count_auxiliary_images_of_at_most_the_same_score_by_hand():
    found = find_copies({"pixels": by_hand()}, ROLE, rate=0.7)
    assert np.allclose(found.p_value, [1 / 3, 1 / 3, np.nan, np.nan, 1 / 3], equal_nan=True)
    assert np.allclose(found.adjusted_p_value, [1 / 3, 1 / 3, np.nan, np.nan, np.nan], equal_nan=True)
    assert found.named.tolist() == [True, True, False, False, False]
    assert found.copy.tolist() == [True, True]
    assert found.resolution == pytest.approx(1 / 3)
    assert found.fewest == 1  # 2 members, a third each: one may have 0.7 / 2


def test_of_two_distances_each_has_half_the_rate_and_either_names_by_hand():
    other = of_scores(np.array([5.0, 4, 1, 3, 2]), np.array([1.0, 9]), np.array([2, 4]))  # p: 1, 1, -, -, 2 / 3
    found = find_copies({"pixels": by_hand(), "features": other}, ROLE, rate=0.7)
    assert np.allclose(found.p_value[[0, 1, 4]], 2 / 3)
    assert found.named.tolist() == [True, True, False, False, False], "2 / 3 is at most 0.7"
    assert found.copy.tolist() == [True, True], "by pixels; by features the nearest image is no member"
    strict = find_copies({"pixels": by_hand(), "features": other}, ROLE, rate=0.6)
    assert not strict.named.any()
    assert not strict.copy.any()
    assert (strict.fewest, strict.resolution) == (3, pytest.approx(2 / 3))  # 2 members * 2 / 3 / 0.6


def test_a_sample_is_a_copy_where_a_named_member_is_the_nearest_of_all_images():
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.95])
    image, ratio = np.array([0, 0, 0, 2, 1]), np.array([0.1, 0.5, 0.75, 0.8, 0.9])
    found = find_copies({"pixels": of_scores(score, ratio, image)}, ROLE, rate=0.67)
    assert found.named.tolist() == [True, False, False, False, False]
    assert found.copy.tolist() == [True, True, False, False, False], "the third is no nearer than 0.7, as others come"


def test_a_sample_nearest_to_an_auxiliary_image_is_no_copy_however_near():
    role = np.repeat(["member", "auxiliary"], [10, 20])
    score = np.r_[np.linspace(0.1, 0.2, 10), 0.05, np.linspace(0.8, 0.9, 19)]
    found = find_copies({"pixels": of_scores(score, np.array([0.05, 0.1]), np.array([10, 0]))}, role, rate=0.1)
    assert found.named.tolist() == [True] * 10 + [False] * 20, "p = 2 / 21 each"
    assert found.copy.tolist() == [False, True]


def test_swapped_p_values_by_hand():
    p_values = swapped_p_values(np.array([1.0, 1, 4]), np.array([8.0, 2, 2]))  # s / log 2: 3, 1, -1
    assert np.allclose(p_values, [1 / 4, 2 / 4, 3 / 4])  # -s / log 2: -3, -1, 1


def test_the_rule_names_what_the_threshold_of_barber_and_candes_names_where_numbers_are_equal():
    rng = np.random.default_rng(3)
    for rate in (0.05, 0.1, 0.3):
        score = np.r_[rng.uniform(0, 1, 150), rng.uniform(0, 1, 50) ** 4, rng.uniform(0, 1, 200)]
        role = np.repeat(["member", "auxiliary"], 200)
        one = of_scores(score, np.ones(1), np.zeros(1, int))
        named = find_copies({"pixels": one}, role, rate).named
        passing = [
            t for t in score if (1 + (score[200:] <= t).sum()) <= rate * 201 / 200 * (score[:200] <= t).sum() + 1e-12
        ]
        assert (named[:200] == (score[:200] <= max(passing, default=-1))).all()


def test_pixel_distances_are_root_mean_squares_exactly_however_the_samples_are_cut():
    rng = np.random.default_rng(1)
    pool, made = (rng.integers(0, 256, (count, 3, 5, 4), dtype=np.uint8) for count in (1500, 9))
    made[3] = pool[1200]
    whole = pixel_distances(made, pool)(slice(0, 9))
    direct = np.sqrt(((made[:, None].astype(float) - pool) ** 2).mean(axis=(2, 3, 4)))
    assert np.allclose(whole, direct, rtol=1e-14, atol=0)
    assert whole[3, 1200] == 0
    pieces = [pixel_distances(made, pool)(slice(row, row + 1)) for row in range(9)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_feature_distances_are_in_standard_deviations_and_leave_constant_features_out():
    pool = np.array([[0.0, 5, 1], [2, 5, 1], [4, 5, 7]], np.float32)
    found = feature_distances(np.array([[2, 9, 1]], np.float32), pool)(slice(0, 1))
    a, b = 2 / np.sqrt(8 / 3), 6 / np.sqrt(8)
    assert np.allclose(found, np.sqrt([[a**2 / 2, 0, (a**2 + b**2) / 2]]))


def test_the_unit_of_a_sample_is_its_mean_distance_to_the_nearest_or_to_all_of_a_small_pool():
    assert usual(DISTANCES, 3).tolist() == [(1 + 2 + 4) / 3, (3 + 5 + 6) / 3]
    assert usual(DISTANCES, 50).tolist() == [21 / 5, 35 / 5]


def test_the_order_of_samples_and_of_the_pool_changes_no_p_value():
    pool, role, made = planted(5, copied=10)
    found = find_copies(searches(pool, role, made), role, 0.1)
    rng = np.random.default_rng(0)
    images, samples = rng.permutation(len(pool)), rng.permutation(len(made))
    moved = find_copies(searches(pool[images], role[images], made[samples]), role[images], 0.1)
    assert np.array_equal(moved.p_value, found.p_value[images], equal_nan=True)
    assert (moved.named == found.named[images]).all()
    assert (moved.copy == found.copy[samples]).all()


def test_copied_members_are_named_and_their_samples_are_copies():
    pool, role, made = planted(2, copied=10)
    found = find_copies(searches(pool, role, made), role, 0.1)
    assert found.named[:10].all()
    assert found.named.sum() <= 13
    assert found.copy[:40].all()
    assert found.copy[40:].mean() < 0.05


def test_where_nothing_is_copied_p_values_are_uniform_and_hardly_a_draw_names_any():
    """With members and auxiliary images swapped too; 300 draws, of which members share samples and neighbours."""
    low, named = {"member": 0, "holdout": 0, "swapped": 0}, 0
    for seed in range(300):
        pool, role, made = planted(seed, members=100, auxiliary=100)
        of = {"pixels": search(pixel_distances(made, pool), len(made), role, 50)}
        found = find_copies(of, role, 0.1)
        swapped = np.where(role == "member", "auxiliary", np.where(role == "auxiliary", "member", role))
        back = find_copies(of, swapped, 0.1)
        for name in ("member", "holdout"):
            low[name] += int(found.p_value[role == name][seed % 100] <= 0.05)  # one image: draws are independent
        low["swapped"] += int(back.p_value[role == "auxiliary"][seed % 100] <= 0.05)
        named += bool(found.named.any())
    for name, count in low.items():
        assert binomtest(count, 300, 0.05, alternative="greater").pvalue > 0.005, (name, count)
        assert binomtest(count, 300, 0.05, alternative="less").pvalue > 0.005, (name, count)
    assert binomtest(named, 300, 0.1, alternative="greater").pvalue > 0.005, named
