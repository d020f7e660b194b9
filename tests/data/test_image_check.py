"""What is wrong with a picture: real files of every format, whole and broken in every way."""

import random
import warnings

import pytest
import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data.decode import decode
from efficientnetv2_tf.data.image_check import FORMATS, MAX_PIXELS, check_image, pillow_without_limit

PROBLEMS = {
    "empty", "cut", "damaged", "not an image", "other format", "zero size", "decompression bomb", ""
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_good_pictures(encoded_picture, kind):
    facts = check_image(encoded_picture(kind, size=(31, 17)))
    assert (facts.format, facts.width, facts.height) == (kind, 31, 17)
    assert facts.mode == ("P" if kind == "GIF" else "RGB")
    assert (facts.problem, facts.detail) == ("", "")


@pytest.mark.parametrize("kind, mode", [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P")])
def test_modes(encoded_picture, kind, mode):
    facts = check_image(encoded_picture(kind, mode=mode))
    assert (facts.format, facts.mode, facts.problem) == (kind, mode, "")


def test_several_jpegs_in_one_file_are_a_jpeg(encoded_picture):
    more = [Image.new("RGB", (20, 16))]
    facts = check_image(encoded_picture("MPO", save_all=True, append_images=more))
    assert (facts.format, facts.problem) == ("JPEG", "")


@pytest.mark.parametrize("problem", sorted(PROBLEMS - {""}))
def test_broken_pictures(broken_pictures, problem):
    with pillow_without_limit():
        facts = check_image(broken_pictures[problem])
    assert facts.problem == problem
    assert facts.detail


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_cut_pictures(encoded_picture, kind, share):
    whole = encoded_picture(kind, size=(120, 90))
    cut = whole[: int(share * len(whole))]
    facts = check_image(cut)
    assert facts.problem == "cut"
    assert f"after {len(cut):,} bytes" in facts.detail


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])  # those that mark their end
def test_downloads_that_were_filled_up(encoded_picture, kind):
    whole = encoded_picture(kind, size=(120, 90))
    half = len(whole) // 2
    assert check_image(whole[:half] + bytes(len(whole) - half)).problem == "cut"


@pytest.mark.parametrize(
    "kind, place, size", [("BMP", 18, 4), ("BMP", 22, 4), ("PNG", 20, 4), ("WEBP", 26, 2), ("WEBP", 28, 2)]
)
def test_headers_that_say_zero(encoded_picture, kind, place, size):
    encoded = bytearray(encoded_picture(kind))
    encoded[place : place + size] = bytes(size)
    facts = check_image(bytes(encoded))
    assert facts.problem == "zero size"
    assert " 0 " in facts.detail


def test_a_jpeg_without_height(encoded_picture):
    encoded = bytearray(encoded_picture("JPEG", exif=b"Exif\0\0" + bytes(300)))  # so that the size is further behind
    frame = encoded.index(b"\xff\xc0")
    encoded[frame + 5 : frame + 7] = bytes(2)
    facts = check_image(bytes(encoded))
    assert (facts.problem, facts.detail) == ("zero size", "the header says 20 x 0 pixels")


def test_the_limit_is_stated_and_can_be_set(broken_pictures, encoded_picture):
    with pillow_without_limit():
        facts = check_image(broken_pictures["decompression bomb"])
    assert (facts.width, facts.height) == (60_000, 60_000)
    assert "60,000 x 60,000 pixels in " in facts.detail and f"the limit is {MAX_PIXELS:,}" in facts.detail
    assert check_image(encoded_picture(size=(20, 16)), max_pixels=320).problem == ""
    assert check_image(encoded_picture(size=(20, 16)), max_pixels=319).problem == "decompression bomb"


def test_pillows_limit_comes_back(broken_pictures):
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(), pytest.raises(KeyError), pillow_without_limit():
        warnings.simplefilter("error")
        assert Image.MAX_IMAGE_PIXELS is None
        raise KeyError
    assert before == Image.MAX_IMAGE_PIXELS


def test_files_broken_by_chance(encoded_picture):
    """Whatever the bytes, there is an answer, and it is good only if the training's decoder says so."""
    generator, seen = random.Random(0), set()
    with pillow_without_limit():
        for turn in range(150):
            encoded = bytearray(encoded_picture(FORMATS[turn % len(FORMATS)], seed=turn))
            for _ in range(generator.randrange(1, 6)):
                encoded[int(generator.random() ** 3 * len(encoded))] = generator.randrange(256)  # mostly in the header
            facts = check_image(bytes(encoded))
            seen.add(facts.problem)
            if facts.problem == "":
                assert decode(tf.constant(bytes(encoded))).shape == (facts.height, facts.width, 3)
    assert seen <= PROBLEMS and {"", "damaged", "not an image"} <= seen
