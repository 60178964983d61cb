"""Near-duplicates across roles: a non-member that is all but a member was, as good as, trained on.

Two images are near-duplicates where their perceptual hashes are close and, once brightness and contrast are matched,
their pixels too.  What is found depends on the data (small or plain images are much alike by nature), so a count alone
says little.  Members are therefore held against non-members: were roles drawn at random, either would have as many
near-duplicates in the same third set.

Nor may any role have more or fewer of them than another among the images that a reference was trained on: scores under
the reference would tell the role.

Near-duplicates among suspects are one picture: their scores are alike whether or not it was used, so that to count each
would be to count one piece of evidence many times.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.fft import dctn
from scipy.stats import fisher_exact

SIDE = 8  # of the block of frequencies in a hash: 64 bits
CHUNK = 512  # images at a time: their transform is in float64
ROUNDING = 1e-3  # grey levels between the pixels of exact copies, at most
BLOCK = 4  # rows of distances at a time: few enough for the processor's cache


@dataclass(frozen=True)
class Images:
    """Images of one role, and their hashes."""

    pixels: np.ndarray  # (N, C, H, W) uint8
    hashes: np.ndarray  # (N,) uint64

    def __getitem__(self, rows: np.ndarray) -> Self:
        """Some of them, in their order."""
        return type(self)(self.pixels[rows], self.hashes[rows])


@dataclass(frozen=True)
class Nearest:
    """For each of N images, the image of another role that is nearest by hash (of several, the first)."""

    place: np.ndarray  # (N,) where it stands
    hash_distance: np.ndarray  # (N,) bits that differ, 0..64
    pixel_rmse: np.ndarray  # (N,) grey levels

    def near(self, hash_distance: int, pixel_rmse: float) -> np.ndarray:
        """(N,) bool: at most so far by either."""
        return (self.hash_distance <= hash_distance) & (self.pixel_rmse <= pixel_rmse)


def hashed(pixels: np.ndarray) -> Images:
    """Images with their hashes.  pixels : (N, C, H, W) uint8."""
    parts = [perceptual_hash(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)]
    return Images(pixels, np.concatenate(parts))


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """pHash: which of the 8x8 lowest frequencies of the grey image exceed their median.  Returns (N,) uint64.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, Sec. 3.2.1; the block has the
    constant too, as in ImageHash.  Frequencies that an image under 8x8 does not have are zero.
    """
    grey = pixels.mean(axis=1, dtype=np.float64)  # (N, H, W)
    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :SIDE, :SIDE]
    padded = np.pad(low, ((0, 0), (0, SIDE - low.shape[1]), (0, SIDE - low.shape[2])))
    block = np.round(padded.reshape(len(grey), -1), 6)  # what is zero but for rounding is zero
    bits = block > np.median(block, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def nearest(images: Images, among: Images) -> Nearest:
    """The nearest of `among` for each image.  Compares every pair: 50,000 x 50,000 take seconds on one core."""
    place, distance = np.empty(len(images.hashes), np.int64), np.empty(len(images.hashes), np.int64)
    for start in range(0, len(place), BLOCK):
        rows = slice(start, start + BLOCK)
        differing = np.bitwise_count(images.hashes[rows, None] ^ among.hashes)  # (BLOCK, M) uint8
        place[rows], distance[rows] = differing.argmin(1), differing.min(1)
    rmse = [pixel_rmse(image, among.pixels[other]) for image, other in zip(images.pixels, place, strict=True)]
    return Nearest(place, distance, np.array(rmse))


def pictures(images: Images, hash_distance: int, rmse: float) -> np.ndarray:
    """(N,) int, the first image of the same picture: connected components of the graph of near-duplicates.

    Exact copies are one picture whatever the limits are.  Compares every pair of hashes, and the pixels of those that
    are near: 10,000 images take seconds where few are alike.
    """
    picture = np.arange(len(images.hashes))
    for row in range(len(picture)):
        differing = np.bitwise_count(images.hashes[:row] ^ images.hashes[row])
        for other in np.flatnonzero(differing <= hash_distance).tolist():
            first, later = sorted([picture[row], picture[other]])
            if first < later and pixel_rmse(images.pixels[row], images.pixels[other]) <= max(rmse, ROUNDING):
                picture[picture == later] = first
    return picture


def pixel_rmse(image: np.ndarray, other: np.ndarray) -> float:
    """What is left between two images after brightness and contrast are matched, in grey levels.

    s sqrt(1 - r^2), with s the larger of both standard deviations and r the pixels' correlation, zero if negative: the
    root mean square residual of the busier image given the other.  image, other : (C, H, W) uint8.
    """
    x, y = image - image.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    calmer, busier = sorted([(x * x).mean(), (y * y).mean()])  # variances
    explained = max(0.0, (x * y).mean()) ** 2 / calmer if calmer else 0.0  # r^2 s^2
    return float(np.sqrt(max(0.0, busier - explained)))


def excess_p_value(near: np.ndarray, control: np.ndarray) -> float:
    """p-value of "no likelier than in the control": Fisher's exact test, one-sided.

    near, control : (M,) and (N,) bool, who has a near-duplicate in the same third set.
    """
    return _fisher(near, control, "greater")


def difference_p_value(near: np.ndarray, control: np.ndarray) -> float:
    """p-value of "as likely as in the control": Fisher's exact test, two-sided.  Arguments as of `excess_p_value`."""
    return _fisher(near, control, "two-sided")


def _fisher(near: np.ndarray, control: np.ndarray, alternative: str) -> float:
    table = [[int(images.sum()), int((~images).sum())] for images in (near, control)]
    return float(fisher_exact(table, alternative=alternative).pvalue)
