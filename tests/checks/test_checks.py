"""Checks against wrong conclusions: known by hand first, then on real images that were tampered with, and fair ones."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from leakgauge.checks.blind import blind_check
from leakgauge.checks.conditions import caption_features, caption_role, caption_roles, label_role, label_roles
from leakgauge.checks.near_duplicates import (
    Images,
    difference_p_value,
    excess_p_value,
    hashed,
    nearest,
    perceptual_hash,
    pictures,
    pixel_rmse,
)
from leakgauge.checks.null_check import null_check
from leakgauge.checks.plan import Plan, findings_of
from leakgauge.checks.roles import RoleChecks, RoleImages
from leakgauge.datasets import digits
from leakgauge.features import named_features
from leakgauge.inference.conformal import fpr_interval
from leakgauge.inference.suspects import set_test
from leakgauge.options import Check
from leakgauge.tables import image_table

SIDE = 64  # of the photographs' tiles


def grey(rows: object) -> np.ndarray:
    """One grey image, (1, 1, H, W)."""
    return np.array(rows, dtype=np.uint8)[None, None]


# Perceptual hash


def bits(image: np.ndarray) -> np.ndarray:
    """The hash of one image as (8, 8) 0 or 1, rows of rising vertical frequency."""
    return np.unpackbits(perceptual_hash(image).view(np.uint8)).reshape(8, 8)


def test_the_hash_of_an_image_split_in_two_halves_is_known_by_hand():
    """Left bright, right dark: the cosine sums over the left half are positive at 0, 1 and 5, negative at 3 and 7, and
    zero at the others, as is the median of all 64."""
    left_bright = np.where(np.arange(8) < 4, 200, 40) * np.ones((8, 1))
    expected = np.zeros((8, 8), np.uint8)
    expected[0, [0, 1, 5]] = 1
    np.testing.assert_array_equal(bits(grey(left_bright)), expected)
    np.testing.assert_array_equal(bits(grey(left_bright.T)), expected.T)
    expected[0] = [1, 0, 0, 1, 0, 0, 0, 1]
    np.testing.assert_array_equal(bits(grey(left_bright[:, ::-1])), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (7, 40), (32, 32)])
def test_a_flat_image_has_no_frequency_but_the_constant_at_any_size(size):
    assert bits(np.full((1, 3, *size), 77, np.uint8)).ravel().tolist() == [1] + 63 * [0]


def test_company_changes_no_hash():
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 9, 11), dtype=np.uint8)
    alone = [perceptual_hash(images[row : row + 1])[0] for row in (0, 511, 512, 599)]
    np.testing.assert_array_equal(hashed(images).hashes[[0, 511, 512, 599]], alone)


def test_the_nearest_is_the_first_of_those_with_fewest_differing_bits():
    codes = [np.array(values, dtype=np.uint64) for values in ([0b1011, 2**64 - 1], [0b0000, 0b1010, 0b0011, 2**63])]
    one, many = (Images(np.zeros((len(code), 1, 2, 2), np.uint8), code) for code in codes)
    found = nearest(one, many)
    assert found.place.tolist() == [1, 1]
    assert found.hash_distance.tolist() == [1, 62]


def test_nearest_agrees_with_python_integers():
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 2**64, count, dtype=np.uint64) for count in (23, 31)]
    found = nearest(*(Images(np.zeros((len(code), 1, 2, 2), np.uint8), code) for code in codes))
    differing = np.array([[(int(a) ^ int(b)).bit_count() for b in codes[1]] for a in codes[0]])
    np.testing.assert_array_equal(found.place, differing.argmin(1))
    np.testing.assert_array_equal(found.hash_distance, differing.min(1))


# Pixels


@pytest.mark.parametrize(
    ("other", "rmse"),
    [
        ([[0, 2], [0, 2]], 0),
        ([[10, 14], [10, 14]], 0),  # brighter by 10 and twice the contrast
        ([[5, 5], [5, 5]], 1),  # flat: the deviation of the one that is not
        ([[2, 0], [2, 0]], 1),  # inverted: nothing is explained
        ([[0, 0], [2, 2]], 1),  # uncorrelated
        ([[0, 4], [0, 0]], np.sqrt(2)),  # variance 3, r^2 = 1/3: 3 (1 - 1/3) = 2
    ],
)
def test_pixel_rmse_is_what_brightness_and_contrast_leave_unexplained(other, rmse):
    images = grey([[0, 2], [0, 2]])[0], grey(other)[0]
    assert pixel_rmse(*images) == pytest.approx(rmse, abs=1e-12)
    assert pixel_rmse(*images[::-1]) == pytest.approx(rmse, abs=1e-12), "the same from either side"


# Near-duplicates planted among photographs


def tiles(shift: int = 0) -> np.ndarray:
    """Tiles of scikit-learn's two photographs, made half as large, (N, 3, SIDE, SIDE) uint8."""
    found = []
    for photograph in load_sample_images().images:
        height, width, _ = photograph.shape
        for y in range(0, height - 2 * SIDE - 2, 2 * SIDE):
            for x in range(0, width - 2 * SIDE - 2, 2 * SIDE):
                tile = photograph[y : y + 2 * SIDE, x + 2 * shift : x + 2 * shift + 2 * SIDE]
                found.append(np.asarray(Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.BOX)))
    return np.stack(found).transpose(0, 3, 1, 2)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Images as they come back from a JPEG file."""
    decoded = []
    for image in pixels.transpose(0, 2, 3, 1):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(stream)))
    return np.stack(decoded).transpose(0, 3, 1, 2)


def tampered() -> dict[str, np.ndarray]:
    return {
        "brighter": np.clip(1.15 * tiles() + 5, 0, 255).astype(np.uint8),
        "shifted by a pixel": tiles(shift=1),
        "JPEG": jpeg(tiles(), 75),
    }


@pytest.mark.parametrize("how", ["brighter", "shifted by a pixel", "JPEG"])
def test_planted_copies_are_found_and_other_photographs_are_not(how):
    images, copies = tiles(), tampered()[how]
    half = len(images) // 2
    members, unknown = hashed(images[:half]), hashed(images[half:])  # of one photograph, and of the other
    typical = float(np.median(nearest(unknown, members).pixel_rmse))
    found = nearest(hashed(copies[:half]), members)
    near = found.near(10, 0.5 * typical)
    assert near.mean() > 0.8
    assert (found.place[near] == np.flatnonzero(near)).all(), "each copy with its own original"
    assert nearest(unknown, members).near(10, 0.5 * typical).sum() == 0


# Which suspects are one picture


def test_a_picture_is_whatever_hangs_together_by_near_duplicates():
    hashes = np.array([0b111111000111, 0b0, 0b111, 0b111111, 0b0], dtype=np.uint64)
    pixels = np.tile(np.arange(16, dtype=np.uint8).reshape(4, 4) * 10, (5, 1, 1, 1))
    pixels[4] = pixels[4].transpose(0, 2, 1)  # the hash of another, but other pixels
    assert pictures(Images(pixels, hashes), 3, 5.0).tolist() == [0, 1, 1, 1, 4], "the last but one by way of 0b111"
    assert pictures(Images(pixels, hashes), 2, 5.0).tolist() == [0, 1, 2, 3, 4]
    assert pictures(Images(pixels, hashes), 9, 1e3).tolist() == [0, 0, 0, 0, 0]


def test_exact_copies_are_one_picture_whatever_the_limits_are():
    distinct = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    assert pictures(hashed(distinct[np.arange(60) % 20]), 0, 1e-12).tolist() == [*range(20)] * 3


def drawn(scans: np.ndarray, seed: int, count: int) -> tuple[np.ndarray, float]:
    """(count, 1, 8, 8) uint8 digits at random, and what the check finds typical of others."""
    order = np.random.default_rng(seed).permutation(len(scans))
    auxiliary, holdout = hashed(scans[order[:900]]), hashed(scans[order[900:1497]])
    return scans[order[1497 : 1497 + count]], float(np.median(nearest(holdout, auxiliary).pixel_rmse))


@pytest.mark.parametrize("seed", range(5))
def test_of_200_different_digits_hardly_any_are_taken_for_one_picture(scans, seed):
    pixels, typical = drawn(scans, seed, 200)
    assert len(np.unique(pictures(hashed(pixels), 10, 0.5 * typical))) >= 199


@pytest.mark.parametrize("how", ["brighter", "JPEG"])
def test_a_photograph_and_its_altered_copy_are_one_picture_and_other_photographs_are_not(how):
    images, copies = tiles(), tampered()[how]
    half = len(images) // 2
    typical = float(np.median(nearest(hashed(images[half:]), hashed(images[:half])).pixel_rmse))
    found = pictures(hashed(np.concatenate([images, copies])), 10, 0.5 * typical)
    assert (found[: len(images)] == np.arange(len(images))).mean() > 0.9
    assert (found[len(images) :] == found[: len(images)]).mean() > 0.8


def test_ten_near_copies_of_an_unused_picture_make_a_set_suspicious_no_more_often_than_was_asked_for(scans):
    """Scores of near-copies are alike, whether or not the picture was used: counted ten times, a third are "used"."""
    rng = np.random.default_rng(0)
    unused, typical = drawn(scans, 0, 300)
    once, ten_times = [], []
    for picture in unused:
        noise = rng.integers(-1, 2, (10, *picture.shape))
        copies = np.clip(picture + noise, 0, 255).astype(np.uint8)
        first = np.unique(pictures(hashed(copies), 10, 0.5 * typical))
        membership_scores = rng.standard_normal() + 0.1 * rng.standard_normal(10)
        holdout = rng.standard_normal(500)
        once.append(set_test(membership_scores[first], holdout, 0.95).p_value <= 0.05)
        ten_times.append(set_test(membership_scores, holdout, 0.95).p_value <= 0.05)
    assert np.mean(once) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(ten_times) > 0.2, "what is mended here"


def test_members_with_more_near_duplicates_than_others_are_told_from_members_with_as_many():
    def of(count: int, total: int) -> np.ndarray:
        return np.arange(total) < count

    assert excess_p_value(of(3, 3), of(0, 3)) == pytest.approx(1 / 20)  # the most extreme of C(6, 3) ways
    assert excess_p_value(of(0, 5), of(0, 9)) == 1
    assert excess_p_value(of(0, 3), of(3, 3)) == 1, "fewer are no alarm"
    assert excess_p_value(of(10, 100), of(20, 200)) > 0.5


def test_fewer_near_duplicates_than_others_have_differ_as_much_as_more():
    def of(count: int, total: int) -> np.ndarray:
        return np.arange(total) < count

    assert difference_p_value(of(0, 3), of(3, 3)) == pytest.approx(2 / 20)  # both ends of C(6, 3) ways
    assert difference_p_value(of(3, 3), of(0, 3)) == pytest.approx(2 / 20)
    assert difference_p_value(of(10, 100), of(20, 200)) > 0.5


# Blind check


def features(pixels: np.ndarray) -> np.ndarray:
    return np.stack(list(named_features(pixels).values()), axis=1)


@pytest.fixture(scope="module")
def scans() -> np.ndarray:
    """scikit-learn's digit scans, (1797, 1, 8, 8) uint8."""
    return digits.read(digits.DigitsEntry(source="digits", path="")).pixels.transpose(0, 3, 1, 2)


def test_a_column_that_tells_all_is_found_and_a_constant_one_tells_nothing():
    found = blind_check(np.ones((20, 1)), np.zeros((30, 1)), 0.95, 19, 0)
    assert (found.auc, found.high, found.p_value) == (1.0, 1.0, 1 / 20)
    assert 0.9 < found.low < 1, "fifty images cannot vouch for 1"
    flat = blind_check(np.ones((20, 2)), np.ones((30, 2)), 0.95, 19, 0)
    assert (flat.auc, flat.p_value) == (0.5, 1.0)


def test_only_ranks_count():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.5, 1, (40, 3)), rng.normal(0, 1, (60, 3))
    assert blind_check(first, second, 0.95, 9, 0) == blind_check(np.exp(9 * first), np.exp(9 * second), 0.95, 9, 0)


def test_too_few_images_give_no_answer():
    values = np.random.default_rng(0).normal(size=(50, 3))
    assert blind_check(values[:9], values[9:], 0.95, 19, 0) is None
    assert blind_check(values[:10], values[10:], 0.95, 19, 0) is not None


def test_the_p_value_of_sets_drawn_alike_is_uniform_however_unequal_and_small():
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(60):
        noise = rng.normal(size=(60, 4))
        p_values.append(blind_check(noise[:15], noise[15:], 0.95, 9, seed).p_value)
    assert 1 <= np.sum(np.array(p_values) <= 0.1) <= 14  # 6 expected; within 3.5 standard deviations
    assert 17 <= np.sum(np.array(p_values) <= 0.5) <= 43  # 30


@pytest.mark.parametrize("seed", range(4))
def test_a_fair_split_of_digits_is_quiet_and_an_unfair_one_is_not(scans, seed):
    order = np.random.default_rng(seed).permutation(len(scans))
    members, others = scans[order[:300]], scans[order[300:]]
    blurred = np.rint(gaussian_filter(others.astype(float), (0, 0, 0.4, 0.4))).astype(np.uint8)
    fair, inverted, smooth = (
        blind_check(features(members), features(images), 0.95, 19, seed) for images in (others, 255 - others, blurred)
    )
    assert fair.low < 0.55
    assert inverted.low > 0.9
    assert smooth.low > 0.9
    assert inverted.p_value == smooth.p_value == 1 / 20


def test_twenty_images_of_one_class_are_told_from_a_mixed_set(scans):
    labels = np.array(digits.read(digits.DigitsEntry(source="digits", path="")).labels)
    threes, others = np.flatnonzero(labels == 3)[:20], np.arange(900, 1797)
    found = blind_check(features(scans[threes]), features(scans[others]), 0.95, 19, 0)
    assert found.low > 0.7
    assert found.p_value == 1 / 20


def test_two_jpeg_qualities_are_told_apart_though_every_image_is_written_as_png():
    photographs = crops()
    fair = blind_check(features(jpeg(photographs[::2], 90)), features(jpeg(photographs[1::2], 90)), 0.95, 99, 0)
    unfair = blind_check(features(jpeg(photographs[::2], 90)), features(jpeg(photographs[1::2], 60)), 0.95, 99, 0)
    assert fair.p_value > 0.01
    assert unfair.p_value == 1 / 100
    assert unfair.low > 0.6


def crops() -> np.ndarray:
    """32x32 crops of scikit-learn's two photographs, in random order, (N, 3, 32, 32) uint8."""
    found = [
        photograph[y : y + 32, x : x + 32]
        for photograph in load_sample_images().images
        for y in range(0, photograph.shape[0] - 31, 32)
        for x in range(0, photograph.shape[1] - 31, 32)
    ]
    order = np.random.default_rng(0).permutation(len(found))
    return np.stack(found)[order].transpose(0, 3, 1, 2)


# Labels and captions


def test_the_p_value_of_labels_is_the_share_of_ways_to_give_them_that_are_as_extreme():
    found = label_role([0, 0, 0], [1, 1, 1], 20_000, 0)
    assert found.p_value == pytest.approx(2 / 20, abs=0.01)  # of C(6, 3) = 20 ways two part the labels
    assert (found.label, found.images, found.of_first, found.expected) == (0, 3, 3, 1.5)
    # of C(5, 2) = 10 ways one gives both 1s to the first set, and none is as extreme
    assert label_role([1, 1], [0, 0, 0], 20_000, 0).p_value == pytest.approx(1 / 10, abs=0.01)
    assert label_role([0, 1], [0, 1, 0, 1], 999, 0).p_value == 1


def test_the_label_that_differs_most_is_named():
    first, second = [0] * 10 + [1] * 10 + [2] * 20, [0] * 20 + [1] * 20 + [2] * 2
    found = label_role(first, second, 999, 0)
    assert (found.label, found.of_first, found.images) == (2, 20, 22)
    assert found.expected == pytest.approx(22 * 40 / 82)
    assert found.p_value == 1 / 1000


@pytest.mark.parametrize("classes", [2, 10, 300])
def test_p_values_of_labels_are_uniform_for_roles_at_random_with_many_classes_and_few_images(classes):
    rng = np.random.default_rng(0)
    p_values = []
    for seed in range(400):
        labels = rng.choice(classes, 90, p=rng.dirichlet(np.ones(classes))).tolist()
        p_values.append(label_role(labels[:20], labels[20:], 199, seed).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array(p_values) <= 0.5) <= 0.5 + 3.5 * 0.5 / 20
    if classes == 300:  # few ties
        assert np.mean(np.array(p_values) <= 0.5) >= 0.5 - 3.5 * 0.5 / 20


def test_a_missing_label_is_a_label_of_its_own_and_two_sets_without_any_give_no_answer():
    assert label_role([None, None], [None, None, None], 99, 0) is None
    labels = list(range(10)) * 2
    for sides in ((labels, [None] * 20), ([None] * 20, labels)):
        assert label_role(*sides, 999, 0).p_value == 1 / 1000, "labels on one side alone tell it from the other"
    found = label_role([None] * 9 + [0], [0] * 20, 999, 0)
    assert (found.label, found.of_first) == (None, 9)
    assert found.p_value == 1 / 1000


def test_captions_are_their_lengths_and_their_words():
    features = caption_features(["a cat", "A cat, a dog", None])
    assert features[:, :2].tolist() == [[5, 2], [12, 4], [0, 0]]
    assert features[:, 2:].tolist() == [[1, 1, 0], [2, 1, 1], [0, 0, 0]]  # a, cat, dog
    assert caption_features(["?", "!!"]).tolist() == [[1, 1], [2, 1]]


def test_a_word_or_a_length_that_goes_with_the_role_is_found_and_captions_drawn_alike_are_not():
    rng = np.random.default_rng(0)
    texts = [f"{one} {other}" for one, other in rng.choice(["cat", "dog", "sea", "sky", "red"], (120, 2))]
    members, others = texts[:40], texts[40:]
    assert caption_role(members, others, 0.95, 99, 0).p_value > 0.01
    for tampered in ([f"photo of {text}" for text in members], [f"{text}..." for text in members]):
        found = caption_role(tampered, others, 0.95, 99, 0)
        assert found.p_value == 1 / 100
        assert found.low > 0.9
    assert caption_role(["the same"] * 40, ["the same"] * 80, 0.95, 99, 0).p_value == 1


def test_without_captions_and_with_few_there_is_no_answer():
    assert caption_role([None] * 20, [None] * 20, 0.95, 99, 0) is None
    assert caption_role(["a"] * 9, ["a"] * 20, 0.95, 99, 0) is None
    assert caption_role([None] * 20, ["a"] * 20, 0.95, 99, 0).p_value == 1 / 100, "captions on one side tell it"


def test_suspects_need_no_labels_or_captions_where_members_do():
    plan = Plan.of(Check(), ["member", "suspect"], True)
    roles = {"member": [None] * 20, "suspect": [None] * 20, "auxiliary": [1] * 20, "holdout": [1] * 20}
    assert list(label_roles(roles, plan)) == ["member"]
    captions = {role: [label and "a cat" for label in labels] for role, labels in roles.items()}
    assert list(caption_roles(captions, plan)) == ["member"]


@pytest.mark.parametrize("reference", [False, True])
def test_every_finding_shares_in_the_false_alarms(reference):
    rng, roles = np.random.default_rng(0), {}
    for role in ("member", "suspect", "auxiliary", "holdout", *(["reference"] if reference else [])):
        pixels = rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
        ids, captions = [f"{role} {row}" for row in range(12)], ["a cat", "a dog"] * 6
        table = image_table(ids, pixels, [0, 1] * 6, [None] * 12, captions)
        roles[role] = RoleImages.of(table, features(pixels.transpose(0, 3, 1, 2)))
    plan = Plan.of(Check(), ["member", "auxiliary", "suspect"], True, reference)
    findings = RoleChecks(roles, Check(), plan).findings()
    findings |= {f"null_check_{role}": {} for role in null_check({role: rng.random((12, 3)) for role in roles}, plan)}
    assert sorted(findings) == sorted(findings_of(plan.roles, True, reference))
    assert plan.level == pytest.approx(Check().false_alarm / len(findings))


# Range of the false-positive rate


def test_one_image_that_calibrates_leaves_the_rate_uniform():
    assert fpr_interval(1, 0.5, 0.95) == pytest.approx((0.025, 0.975))


def test_the_largest_of_99_has_a_rate_of_known_distribution():
    """k = 1: Beta(1, 99), whose distribution function is 1 - (1 - x)^99."""
    low, high = fpr_interval(99, 0.01, 0.95)
    assert low == pytest.approx(1 - 0.975 ** (1 / 99))
    assert high == pytest.approx(1 - 0.025 ** (1 / 99))


def test_an_alpha_that_no_p_value_reaches_flags_nothing():
    assert fpr_interval(98, 0.01, 0.95) == (0.0, 0.0)
    assert fpr_interval(99, 0.01, 0.95)[1] > 0


def test_the_interval_holds_what_calibrated_verdicts_realise():
    """Scores are uniform, so that the rate of a threshold is the threshold."""
    membership_scores = np.sort(np.random.default_rng(0).random((4000, 200)), axis=1)
    rates = 1 - membership_scores[:, -10]  # p <= 0.05 at and above the tenth largest of 200: k = floor(0.05 * 201)
    low, high = fpr_interval(200, 0.05, 0.95)
    assert np.mean((rates >= low) & (rates <= high)) == pytest.approx(0.95, abs=0.015)


def test_more_images_narrow_the_interval():
    widths = [np.diff(fpr_interval(images, 0.01, 0.95))[0] for images in (100, 1000, 10_000)]
    assert widths[0] > widths[1] > widths[2]
