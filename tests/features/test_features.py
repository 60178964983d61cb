"""Image features: each against a value known by hand, on images small enough to see."""

import numpy as np
import pytest
from PIL import Image
from scipy.fft import idctn

from leakgauge.features import (
    FAMILIES,
    colour,
    compression,
    frequency,
    gradients,
    named_features,
    structure,
    texture,
)
from leakgauge.features.colour import luma_and_chroma
from leakgauge.features.gradients import halved, log_energy

FLOOR = np.log(0.01)  # log energy of nothing
SIZES = [(2, 2), (2, 3), (3, 2), (5, 7), (8, 8), (31, 32), (33, 47), (64, 48)]


def plane(rows: object) -> np.ndarray:
    """One grey image as planes (1, 1, H, W) float32."""
    return np.array(rows, dtype=np.float32)[None, None]


def constant(value: float = 128, size: int = 8) -> np.ndarray:
    return plane(np.full((size, size), value))


def checkerboard(low: float = 100, high: float = 110, size: int = 8) -> np.ndarray:
    return plane(np.where(np.indices((size, size)).sum(0) % 2, high, low))


def ramp(step: float = 3, size: int = 8) -> np.ndarray:
    """Brighter by `step` from each column to the next."""
    return plane(np.tile(50 + step * np.arange(size), (size, 1)))


def random_images(height: int, width: int, channels: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)


# Every feature


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_colour_gives_finite_float32(channels, height, width):
    extremes = np.stack([np.full((channels, height, width), value, np.uint8) for value in (0, 255)])
    images = np.concatenate([random_images(height, width, channels), extremes])
    columns = named_features(images)
    for name, values in columns.items():
        assert values.shape == (len(images),), name
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name


@pytest.mark.parametrize("channels", [1, 3])
def test_order_and_company_change_no_value(channels):
    images = random_images(16, 16, channels, count=5)
    together = named_features(images)
    for row in range(5):
        for name, (value,) in named_features(images[row : row + 1]).items():
            assert value == pytest.approx(together[name][row], rel=1e-6, abs=1e-6), name
    for name, values in named_features(images[::-1]).items():
        np.testing.assert_allclose(values[::-1], together[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_names_depend_on_size_and_colours_alone_and_grow_with_both():
    """Scales and bands that an image is too small for are not there; a dataset's images are all of one size."""
    names = {}
    for channels in (1, 3):
        for size in (2, 4, 8, 16, 32, 48):
            names[channels, size] = set(named_features(random_images(size, size, channels)))
            flat = np.zeros((1, channels, size, size), np.uint8)
            assert set(named_features(flat)) == names[channels, size], "what an image shows decides no name"
        assert names[channels, 2] < names[channels, 8] < names[channels, 32]
    for size in (8, 32):
        assert names[1, size] < names[3, size]


def test_images_of_like_size_have_the_same_features():
    assert set(named_features(random_images(32, 32, 3))) == set(named_features(random_images(33, 47, 3)))


def test_grey_features_are_those_of_the_luma_of_equal_channels():
    grey = random_images(16, 16, 1)
    of_grey, of_colour = named_features(grey), named_features(np.repeat(grey, 3, axis=1))
    of_all_channels = {name for name in of_grey if name.startswith(("compressed_bits", "patch_"))}
    for name in of_grey.keys() - of_all_channels:
        assert of_colour[name] == pytest.approx(of_grey[name], abs=1e-3), name
    assert of_colour["colourful"] == pytest.approx(0, abs=1e-3)


def test_no_two_families_use_one_name():
    images = random_images(32, 32, 3)
    planes, pixels = luma_and_chroma(images), images.astype(np.float32)
    of_families = [*(family(planes) for family in FAMILIES), structure.describe(pixels)]
    assert sum(map(len, of_families)) == len(named_features(images))


# Colour


def test_planes_are_those_of_jpeg():
    rgb = random_images(16, 16, 3)
    planes = luma_and_chroma(rgb)
    for image, (luma, blue, red) in zip(rgb, planes, strict=True):
        expected = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("YCbCr"), dtype=np.float32)
        ours = np.stack([luma, blue + 128, red + 128], axis=-1)
        assert -0.1 < (ours - expected).min() <= (ours - expected).max() < 1.1, "Pillow leaves fractions off"


def test_a_grey_image_is_its_own_luma():
    grey = random_images(5, 7, 1)
    planes = luma_and_chroma(grey)
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(planes, grey)


def test_moments_and_quantiles_are_the_hand_computed_ones():
    told = colour.describe(plane([[0, 0, 0], [0, 90, 0], [0, 0, 0]]))
    assert told["mean_luma"] == pytest.approx(10)
    assert told["deviation_luma"] == pytest.approx(np.sqrt(800))  # 8 x 10^2 + 80^2, over 9
    assert told["skew_luma"] == pytest.approx((80**3 - 8 * 10**3) / 9 / (800**1.5 + 1), rel=1e-4)
    assert told["border_luma"] == pytest.approx(-10), "the border is black, the image 10 on average"
    assert told["luma_q50"] == 0
    assert told["luma_q98"] == pytest.approx(0.84 * 90, rel=1e-4)  # 0.98 of the way over 8 gaps
    assert told["black"] == pytest.approx(8 / 9)
    assert told["white"] == 0


def test_saturated_pixels_are_counted():
    told = colour.describe(plane([[0, 4, 5, 128], [250, 251, 255, 128]]))
    assert told["black"] == pytest.approx(2 / 8)
    assert told["white"] == pytest.approx(2 / 8)


def test_a_colourful_image_is_told_from_a_grey_one():
    blue = np.zeros((1, 3, 4, 4), np.uint8)
    blue[:, 2] = 255
    told = colour.describe(luma_and_chroma(blue))
    assert told["mean_blue"] == pytest.approx(127.5, rel=1e-4)
    assert told["mean_red"] == pytest.approx(-0.081312 * 255, rel=1e-4)
    assert told["colourful"] == pytest.approx(np.hypot(127.5, 0.081312 * 255), rel=1e-4)


# Gradients


def test_log_energy_is_that_of_the_mean_square_with_a_floor():
    values = np.array([[[3.0, 4.0]], [[0.0, 0.0]]])
    assert log_energy(values) == pytest.approx([np.log(12.5 + 0.01), FLOOR])


def test_halving_takes_means_of_blocks_and_leaves_an_odd_edge_out():
    image = np.array([[[1, 3, 9], [5, 7, 9], [9, 9, 9]]], dtype=np.float32)
    assert halved(image).tolist() == [[[4.0]]]


def test_a_constant_image_has_no_gradients():
    told = gradients.describe(constant())
    for name, (value,) in told.items():
        if name.startswith(("gradient_x", "gradient_y", "laplacian")):
            assert value == pytest.approx(FLOOR), name
        elif name.startswith("flat"):
            assert value == 1, name
        elif name.startswith("gradient_q"):
            assert value == pytest.approx(np.log(0.5)), name
        else:
            assert value == pytest.approx(0, abs=1e-5), f"{name}: log 0.1 - log(0.01) / 2"


def test_a_ramp_has_gradients_across_alone_which_double_with_the_scale():
    told = gradients.describe(ramp(step=3))
    for scale in (1, 2, 4):
        assert told[f"gradient_x_luma_{scale}"] == pytest.approx(np.log((3 * scale) ** 2 + 0.01))
        assert told[f"gradient_y_luma_{scale}"] == pytest.approx(FLOOR)
        assert told[f"sparse_luma_{scale}"] == pytest.approx(0, abs=0.04), "all differences are of one size"
    assert (told["flat_luma_1.5"], told["flat_luma_3"]) == (0, 1)
    assert told["gradient_q50"] == pytest.approx(np.log(3.5))
    edges = 2 * 8 * 3**2 / 64  # only the first and last columns are bent
    assert told["laplacian_luma"] == pytest.approx(np.log(edges + 0.01), rel=1e-4)


def test_a_checkerboard_is_busy_at_the_finest_scale_alone():
    told = gradients.describe(checkerboard(100, 110))
    for direction in "xy":
        assert told[f"gradient_{direction}_luma_1"] == pytest.approx(np.log(100.01))
        assert told[f"gradient_{direction}_luma_2"] == pytest.approx(FLOOR)
    assert (told["flat_luma_12"], told["flat_luma_18"]) == (0, 1), "neighbours differ by 10 both ways: 14.1 levels"


def test_one_edge_is_sparse_and_noise_is_not():
    edge = plane(np.where(np.arange(16)[None] < 8, 0, 200) + np.zeros((16, 1)))
    noise = plane(np.random.default_rng(0).normal(128, 30, (16, 16)))
    assert gradients.describe(edge)["sparse_luma_1"][0] < gradients.describe(noise)["sparse_luma_1"][0] - 0.5


# Frequency


def basis(row: int, column: int, size: int = 24, amplitude: float = 100) -> np.ndarray:
    """The image of one DCT coefficient."""
    coefficients = np.zeros((size, size))
    coefficients[row, column] = amplitude
    return plane(idctn(coefficients, norm="ortho"))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (3, 4), (0, 23), (13, 12), (23, 23)])
def test_a_basis_image_has_its_energy_in_its_own_ring(row, column):
    told = frequency.describe(basis(row, column))
    expected = int(np.hypot(row, column) / 24 / np.sqrt(2) * frequency.RINGS)
    for ring in range(frequency.RINGS):
        assert (told[f"dct_luma_{ring}"] > FLOOR + 1) == (ring == expected), ring


def test_a_ring_averages_over_its_coefficients():
    told = frequency.describe(basis(23, 23))
    members = sum(int(np.hypot(r, c) / 24 / np.sqrt(2) * 12) == 11 for r in range(24) for c in range(24))
    assert told["dct_luma_11"] == pytest.approx(np.log(100**2 / members + 0.01), rel=1e-4)


def test_a_wiener_filter_keeps_nothing_of_a_flat_block_and_its_share_of_others():
    flat = frequency.describe(constant())
    told = frequency.describe(basis(0, 1, size=4, amplitude=12))  # one of the two coefficients of order 1
    for order in range(1, 7):
        share = 0.5 if order == 1 else 0
        for noise in frequency.NOISE:
            name = f"kept_luma_{order}_{noise}"
            assert flat[name] == pytest.approx(0, abs=1e-6)
            assert told[name] == pytest.approx(share * 144 / (144 + noise**2), abs=1e-4)
        assert flat[f"size_luma_{order}"] == pytest.approx(0, abs=1e-4)
        assert told[f"size_luma_{order}"] == pytest.approx(share * np.log(13), abs=1e-4)


# Texture


def test_a_flat_image_has_no_deviation_in_any_window():
    for name, (value,) in texture.describe(constant(size=32)).items():
        expected = 0 if name.endswith("centre") else np.log(0.5)
        assert value == pytest.approx(expected, abs=1e-5), name


def test_windows_of_a_checkerboard_all_deviate_by_half_its_contrast():
    told = texture.describe(checkerboard(100, 110, size=16))
    for size in (2, 4, 8):
        for name in ("mean", "q5", "q50", "q95"):
            assert told[f"window_{size}_{name}"] == pytest.approx(np.log(5.5)), (size, name)


def test_a_busy_middle_is_told_from_a_busy_border():
    image = np.full((32, 32), 128.0)
    image[8:24, 8:24] = checkerboard(size=16)[0, 0]
    assert texture.describe(plane(image))["window_2_centre"] > 1
    assert texture.describe(plane(np.roll(image, (16, 16), (0, 1))))["window_2_centre"] < -0.5


def test_cells_are_where_the_image_is_busy_or_its_mirror_image():
    image = np.full((16, 16), 128.0)
    image[:4, :4] = checkerboard(100, 110, size=4)[0, 0]
    told, mirrored = (texture.describe(plane(rows)) for rows in (image, image[:, ::-1]))
    cells = {name: value for name, (value,) in told.items() if name.startswith("cell")}
    assert cells.pop("cell_0_0_luma") == pytest.approx((np.log(5.5) + np.log(0.5)) / 2)
    assert len(cells) == 7
    assert all(value == pytest.approx(np.log(0.5)) for value in cells.values())
    assert all(told[name] == mirrored[name] for name in cells)


def windows_explained(chroma: float, noise: float = 0.0) -> dict[str, float]:
    """What is said of a picture whose blue difference follows luma, `chroma` times, and noise beside it."""
    rng = np.random.default_rng(0)
    luma = rng.uniform(0, 255, (16, 16))
    blue = chroma * luma + noise * rng.standard_normal((16, 16))
    planes = np.stack([luma, blue, rng.uniform(-99, 99, (16, 16))])[None].astype(np.float32)
    return {name: float(value[0]) for name, value in texture.describe(planes).items()}


def test_chroma_that_follows_luma_is_told_by_it_and_other_chroma_is_left():
    following, noisy = windows_explained(0.5), windows_explained(0.0, noise=40)
    assert following["window_8_blue_left"] == pytest.approx(np.log(0.25 + 0.5), abs=0.001), "but for the floors"
    assert following["window_8_blue_explained"] == pytest.approx(np.log(0.25 * 255**2 / 12), abs=0.2), (
        "variance of 0.5 luma"
    )
    assert noisy["window_8_blue_left"] == pytest.approx(np.log(40**2), abs=0.2)
    assert noisy["window_8_blue_explained"] < 4


def test_planes_that_are_busy_at_the_same_places_are_told_from_others():
    rng = np.random.default_rng(0)
    busy = np.repeat(np.repeat(rng.uniform(1, 60, (8, 8)), 4, 0), 4, 1) * rng.standard_normal((32, 32))
    planes = np.stack([busy, busy[::-1, ::-1], busy])[None].astype(np.float32)
    told = {name: float(value[0]) for name, value in texture.describe(planes).items()}
    assert told["window_4_luma_red"] > 0.75
    assert told["window_4_luma_blue"] == told["window_4_blue_red"]
    assert abs(told["window_4_luma_blue"]) < 0.5


# Structure


def test_a_ramp_is_told_by_one_number_a_patch():
    told = structure.describe(ramp(step=3, size=8))
    positions = 35 / 12  # the variance of 0..5, where a patch may stand
    assert told.pop("patch_1_8") == pytest.approx(np.log(9 * 9 * positions + 0.05), rel=1e-5)
    assert told.pop("patch_2_3") == pytest.approx(np.log(4 * 6**2 * (2 / 3) + 0.05), rel=1e-5), "and at half the size"
    assert len(told) == 8 + 3, "a grey image has no channels to compare"
    assert all(value == pytest.approx(np.log(0.05), abs=0.05) for value in told.values())


def test_channels_alike_are_correlated_and_channels_apart_are_not():
    rng = np.random.default_rng(0)
    red, blue = rng.normal(128, 30, (2, 64, 64))
    told = structure.describe(np.stack([red, 255 - red, blue])[None].astype(np.float32))
    for direction in "xy":
        assert told[f"channels_{direction}_01_1"] == pytest.approx(-1, abs=0.01)
        assert told[f"channels_{direction}_02_1"] == pytest.approx(0, abs=0.1)


def test_the_spectrum_of_channels_alike_is_one_eigenvalue():
    grey = np.random.default_rng(0).normal(128, 30, (1, 1, 16, 16)).astype(np.float32)
    told = structure.describe(np.repeat(grey, 3, axis=1))
    assert told["spectrum_pixels_1_2"] == pytest.approx(np.log(3 * grey.var()), abs=0.01)
    assert told["spectrum_pixels_1_0"] == pytest.approx(np.log(0.05), abs=0.1)
    assert told["spectrum_pixels_1_1"] == pytest.approx(np.log(0.05), abs=0.1)


# Compression


def test_a_constant_image_costs_nothing():
    told = compression.describe(constant(size=32))
    assert told["entropy_luma"] == pytest.approx(0, abs=1e-6)
    assert told["compressed_bits"] < 0.2, "but DEFLATE's own head and tail"


def test_what_the_predictor_foresees_costs_nothing_and_noise_costs_its_entropy():
    flat = plane(np.tile(np.arange(0, 64, 2), (32, 1)))  # every row alike
    assert compression.describe(flat)["entropy_luma"] < 0.5
    noise = plane(np.random.default_rng(0).integers(0, 2, (64, 64)) * 128)
    coin = compression.describe(noise)["entropy_luma"]
    assert 1 < coin < np.log2(3), "residuals are 0, 128 or -128"
    assert compression.describe(noise)["compressed_bits"] > compression.describe(flat)["compressed_bits"] + 1


def test_the_predictor_is_the_median_edge_detector():
    levels = np.array([[[[10, 20], [30, 25]], [[-9, -5], [-6, -7]]]], dtype=np.int16)
    luma, chroma = compression._residual(levels)[0]
    assert luma.tolist() == [[0, 10], [20, -5]]  # left 30, above 20, corner 10: 40, clipped to 30
    assert chroma.tolist() == [[0, 4], [3, -2]]  # left -6, above -5, corner -9: -2, clipped to -5


@pytest.mark.parametrize("busier", [2, 10, 60])
def test_busier_images_cost_more(busier):
    rng = np.random.default_rng(0)
    calm, busy = (plane(128 + scale * rng.standard_normal((32, 32))) for scale in (busier / 2, busier))
    for name in ("compressed_bits", "entropy_luma"):
        assert compression.describe(busy)[name] > compression.describe(calm)[name]
