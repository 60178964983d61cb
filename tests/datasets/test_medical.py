"""DICOM and NIfTI: levels by hand through the rescale and the window; patients are units; what is amiss is one line."""

import builtins
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import encoded, tiny_params, write_params
from pydicom import Dataset as Tags
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from leakgauge.datasets import READERS, Dataset
from leakgauge.datasets.images import Images
from leakgauge.errors import InputError
from leakgauge.tables import read_table
from stages.images import prepare_images

RAMP = np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.int16)
FULL = {"centre": 127.5, "width": 255}  # 0 to 255: levels stay


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scans").mkdir()


def read(source: str = "dicom", **entry) -> Images:
    options = Dataset.model_validate({"source": source, "path": "scans", "window": FULL, **entry}).root
    return READERS[options.source](options)


@pytest.fixture
def wrong(refusal):
    def run(source: str = "dicom", **entry) -> str:
        params = tiny_params()
        params["datasets"]["scans"] = {"source": source, "path": "scans", "window": FULL} | entry
        write_params(params)
        return refusal(prepare_images, dataset="scans")

    return run


def write(path: str, levels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags) -> FileDataset:
    """A DICOM file.  levels : (H, W) or (frames, H, W) int16.  tags : by keyword; None takes one away."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    said = {"PatientID": "P1", "Rows": levels.shape[-2], "Columns": levels.shape[-1], "SamplesPerPixel": 1}
    said |= {"PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    said |= {"PixelRepresentation": 1, "SOPClassUID": CTImageStorage, "SOPInstanceUID": generate_uid()}
    if levels.ndim == 3:
        said["NumberOfFrames"] = len(levels)
    for name, value in (said | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" not in tags:
        dataset.PixelData = levels.astype("<i2").tobytes()
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    elif syntax != ExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def test_levels_are_rescaled_and_then_windowed():
    write("scans/1.dcm", RAMP * 100, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=9, WindowWidth=1)
    images = read(window={"centre": -200, "width": 800})  # Hounsfield -1000, -800, ..., 400; -600 to 200 are in
    assert images.pixels[0, ..., 0].tolist() == [[0, 0, 0, 64], [128, 191, 255, 255]]
    assert images.notes == ["1 image with levels outside of the window, which are clipped"]


def test_a_window_over_all_levels_keeps_them():
    levels = np.arange(256, dtype=np.int16).reshape(16, 16)
    write("scans/1.dcm", levels)
    images = read()
    np.testing.assert_array_equal(images.pixels[0, ..., 0], levels)
    assert images.notes == []


def test_low_is_bright_where_the_file_says_so():
    write("scans/1", RAMP, PhotometricInterpretation="MONOCHROME1")
    images = read(window={"centre": 3.5, "width": 7})
    assert images.pixels[0, ..., 0].tolist() == [[255, 219, 182, 146], [109, 73, 36, 0]]
    assert images.notes == ["1 image in which low is bright (MONOCHROME1), which are inverted"]


def test_every_frame_is_an_image_and_the_patient_is_the_unit():
    write("scans/a/1", np.stack([RAMP, RAMP + 1, RAMP + 2]), PatientID="P2")
    write("scans/b.dcm", RAMP + 9)
    images = read()
    assert images.ids == ["a/1#0000", "a/1#0001", "a/1#0002", "b.dcm"]
    assert images.paths == ["a/1", "a/1", "a/1", "b.dcm"]
    assert images.units == ["P2", "P2", "P2", "P1"]
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 9]
    assert read(unit="([^/#]+).*").units is None, "the pattern of the entry decides"


def test_the_patient_reaches_the_table_of_images():
    write("scans/1.dcm", RAMP)
    params = tiny_params()
    params["datasets"]["scans"] = {"source": "dicom", "path": "scans", "window": FULL}
    write_params(params)
    prepare_images("scans")
    assert read_table(Path("data/images/scans.parquet")).column("unit").to_pylist() == ["P1"]


def test_slices_of_one_level_are_left_out_and_listed():
    write("scans/1.dcm", np.stack([RAMP * 0 - 500, RAMP, RAMP * 0 + 3]))
    images = read()
    assert images.ids == ["1.dcm#0001"]
    assert images.notes == ["slices of one level not taken: 2 (1.dcm#0000, 1.dcm#0002)"]


def test_enhanced_files_rescale_frame_by_frame():
    def group(slope: float, intercept: float) -> Tags:
        how, within = Tags(), Tags()
        how.RescaleSlope, how.RescaleIntercept, how.RescaleType = slope, intercept, "US"
        within.PixelValueTransformationSequence = [how]
        return within

    frames = np.stack([RAMP, RAMP])
    write("scans/1.dcm", frames, PerFrameFunctionalGroupsSequence=[group(1, 10), group(2, 0)])
    write("scans/2.dcm", frames, SharedFunctionalGroupsSequence=[group(3, 1)])
    expected = [RAMP + 10, RAMP * 2, RAMP * 3 + 1, RAMP * 3 + 1]
    np.testing.assert_array_equal(read().pixels[..., 0], expected)


def test_what_is_no_image_is_listed():
    write("scans/1.dcm", RAMP)
    write("scans/DICOMDIR", RAMP, PixelData=None)
    Path("scans/notes.txt").write_text("any")
    assert read().notes == [
        "files that are no DICOM not taken: 1 (notes.txt)",
        "DICOM files without an image not taken: 1 (DICOMDIR)",
    ]


def test_lossless_compression_that_pydicom_decodes_alone_is_read():
    write("scans/1.dcm", RAMP, RLELossless)
    np.testing.assert_array_equal(read().pixels[0, ..., 0], RAMP)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"PatientID": None}, "scans/1.dcm: names no patient: say what the unit is by `unit`"),
        ({"PatientID": " "}, "scans/1.dcm: names no patient: say what the unit is by `unit`"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "scans/1.dcm: is PALETTE COLOR: only grey DICOM is read"),
        ({"PhotometricInterpretation": None}, "scans/1.dcm: is None: only grey DICOM is read"),
        ({"Rows": None}, "scans/1.dcm: not a readable DICOM file: "),
        ({"Rows": 65535, "Columns": 65535}, "not a readable DICOM file: claims 65535 rows and 65535 columns"),
        ({"Rows": 999}, "scans/1.dcm: not a readable DICOM file: "),
        ({"NumberOfFrames": 2**31 - 1}, "scans/1.dcm: not a readable DICOM file: "),
        ({"syntax": JPEG2000Lossless, "PixelData": encapsulate([b"any!"])}, "scans/1.dcm: not a readable DICOM file: "),
    ],
)
def test_files_that_cannot_be_read_are_refused(tags, said, wrong):
    write("scans/1.dcm", RAMP, **tags)
    assert said in wrong()


def test_files_that_are_no_dicom_are_refused(wrong):
    assert "scans: no images there" in wrong()
    Path("scans/1.dcm").write_bytes(encoded(np.zeros((4, 4), np.uint8)))
    assert "scans/1.dcm: is no DICOM file with a preamble" in wrong()
    Path("scans/1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    line = wrong()
    assert "scans/1.dcm: not a readable DICOM file" in line or "DICOM files without an image not taken: 1" in line
    assert "nowhere: not found, or neither a file nor a folder" in wrong(path="nowhere")


@pytest.mark.parametrize("source", ["dicom", "nifti"])
@pytest.mark.parametrize(
    ("window", "said"),
    [
        (None, "window: Input should be a valid dictionary"),
        ({"centre": 40}, "window.width: missing"),
        ({"centre": 40, "width": 0}, "window.width: Input should be greater than 0"),
        ({"centre": float("inf"), "width": 1.0}, "window.centre: Input should be a finite number"),
    ],
)
def test_a_window_must_be_named(source, window, said, wrong):
    assert said in wrong(source=source, window=window)


def write_nifti(path: str, levels: np.ndarray, slope: float | None = None, intercept: float | None = None) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(levels, np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    nibabel.save(image, path)


VOLUME = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.mark.parametrize("path", ["scans/a.nii", "scans/deep/a.nii.gz"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_slice_of_a_volume_is_an_image_and_the_file_is_the_unit(path, axis):
    write_nifti(path, VOLUME)
    images = read("nifti", axis=axis)
    name = path.removeprefix("scans/")
    assert images.ids == [f"{name}#{number:04d}" for number in range(VOLUME.shape[axis])]
    assert images.units == [name] * VOLUME.shape[axis]
    np.testing.assert_array_equal(images.pixels[..., 0], np.moveaxis(VOLUME, axis, 0))
    assert read("nifti", axis=axis, path=path).units == [Path(path).name] * VOLUME.shape[axis]


def test_a_volumes_own_slope_comes_before_the_window():
    write_nifti("scans/a.nii", VOLUME, 10, -100)
    images = read("nifti", window={"centre": 0, "width": 100})  # levels 5 to 15 of 0 to 23
    expected = np.round(np.clip((np.moveaxis(VOLUME, 2, 0) * 10.0 - 100 + 50) / 100, 0, 1) * 255)
    np.testing.assert_array_equal(images.pixels[..., 0], expected)
    assert images.notes == ["4 images with levels outside of the window, which are clipped"]


def test_blank_slices_of_volumes_join_no_patients():
    volume = VOLUME.copy()
    volume[..., 0] = -7
    write_nifti("scans/a.nii", volume)
    write_nifti("scans/b.nii", volume + 1)
    Path("scans/participants.tsv").write_text("any")
    images = read("nifti")
    assert len(images.ids) == 6
    assert images.notes[:2] == [
        "files that are no NIfTI not taken: 1 (participants.tsv)",
        "slices of one level not taken: 2 (a.nii#0000, b.nii#0000)",
    ]


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        (np.zeros((2, 3), np.int16), "scans/a.nii: has shape (2, 3): needs one volume a file, of three axes"),
        (np.zeros((2, 3, 4, 5), np.int16), "scans/a.nii: has shape (2, 3, 4, 5): needs one volume a file"),
        (np.zeros((2, 3, 4), np.complex64), "scans/a.nii: has levels of type complex64: only grey volumes are read"),
        (np.full((2, 3, 4), np.nan, np.float32), "scans/a.nii#0000: has levels that are not finite"),
        (np.zeros((2, 3, 4), np.int16), "scans: no images there; slices of one level not taken: 4 (a.nii#0000"),
    ],
)
def test_volumes_that_are_none_are_refused(levels, said, wrong):
    write_nifti("scans/a.nii", levels)
    assert said in wrong("nifti")


def test_a_volume_with_a_last_axis_of_one_is_a_volume():
    write_nifti("scans/a.nii", VOLUME[..., None])
    np.testing.assert_array_equal(read("nifti").pixels[..., 0], np.moveaxis(VOLUME, 2, 0))


def test_damaged_files_are_read_or_refused():
    write("scans/1.dcm", np.stack([RAMP, RAMP + 1]), RescaleSlope=2, RescaleIntercept=-1000)
    write_nifti("scans/1.nii", VOLUME)
    write_nifti("scans/1.nii.gz", VOLUME)
    rng = np.random.default_rng(0)
    for path, source in {"1.dcm": "dicom", "1.nii": "nifti", "1.nii.gz": "nifti"}.items():
        file = Path("scans", path)
        sound = file.read_bytes()
        for _ in range(60):
            data = bytearray(sound)
            for place in rng.integers(len(data), size=4):
                data[place] ^= 1 << rng.integers(8)
            file.write_bytes(bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.3 else data))
            try:
                images = read(source, path=str(file))
            except InputError as refused:
                assert len(str(refused).splitlines()) == 1
            else:
                assert images.pixels.dtype == np.uint8


@pytest.mark.parametrize("source", ["dicom", "nifti"])
def test_without_the_extra_the_refusal_names_it(source, monkeypatch, wrong):
    write("scans/1.dcm", RAMP)
    write_nifti("scans/1.nii", VOLUME)
    real = builtins.__import__

    def without(name, *rest):
        if name in ("pydicom", "nibabel"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert f"source: {source} needs pydicom and nibabel: `pip install -e '.[medical]'`" in wrong(source)
