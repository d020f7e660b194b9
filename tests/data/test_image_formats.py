"""Pictures of every kind against Pillow, and headers that must not be believed."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import image_formats
from efficientnetv2_tf.data.decode import decode, decode_for_training

image_module = pytest.importorskip("PIL.Image")


def colours():
    """A picture of 40 x 52 pixels with smooth and sharp parts."""
    rows, columns = np.meshgrid(np.arange(40), np.arange(52), indexing="ij")
    pixels = np.stack([6 * rows, 4 * columns, 255 * (rows // 20 == columns // 26)], axis=-1)
    return image_module.fromarray(pixels.astype(np.uint8))


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def transparent():
    image = colours().convert("RGBA")
    image.putalpha(image_module.linear_gradient("L").resize(image.size))
    return image


def animation(kind, image, **options):
    return encode(image, kind, save_all=True, append_images=[image.rotate(180)], **options)


LOSSLESS = {
    "png": lambda: encode(colours(), "png"),
    "grey png": lambda: encode(colours().convert("L"), "png"),
    "black and white png": lambda: encode(colours().convert("1"), "png"),
    "palette png": lambda: encode(colours().quantize(60), "png"),
    "palette png with transparency": lambda: encode(colours().quantize(60), "png", transparency=7),
    "grey png with transparency": lambda: encode(transparent().convert("LA"), "png"),
    "png with transparency": lambda: encode(transparent(), "png"),
    "gif": lambda: encode(colours(), "gif"),
    "animated gif": lambda: animation("gif", colours(), loop=0, comment=b"x" * 600),
    "bmp": lambda: encode(colours(), "bmp"),
    "bmp with transparency": lambda: encode(transparent(), "bmp"),
    "grey bmp": lambda: encode(colours().convert("L"), "bmp"),
    "palette bmp": lambda: encode(colours().quantize(60), "bmp"),
    "lossless webp": lambda: encode(colours(), "webp", lossless=True),
    "lossless webp with transparency": lambda: encode(transparent(), "webp", lossless=True),
    "webp": lambda: encode(colours(), "webp", quality=60),
    "webp with transparency": lambda: encode(transparent(), "webp", quality=60),
    "animated webp with transparency": lambda: animation("webp", transparent(), lossless=True),
}
LOSSY = {
    "jpeg": lambda: encode(colours(), "jpeg", quality=90),
    "grey jpeg": lambda: encode(colours().convert("L"), "jpeg", quality=90),
    "cmyk jpeg": lambda: encode(colours().convert("CMYK"), "jpeg", quality=90),
    "progressive jpeg": lambda: encode(colours(), "jpeg", quality=90, progressive=True),
}


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_decodes_to_what_pillow_gives(kind):
    encoded = {**LOSSLESS, **LOSSY}[kind]()
    expected = np.asarray(image_module.open(io.BytesIO(encoded)).convert("RGB")).astype(int)
    dataset = tf.data.Dataset.from_tensors(encoded).map(decode)
    assert dataset.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    (image,) = dataset.as_numpy_iterator()
    difference = np.abs(image - expected)
    # Decoders of JPEG round, and fill in colours between pixels, each in its own way.
    assert difference.mean() < (2 if kind in LOSSY else 1e-9)
    assert difference.max() < (40 if kind in LOSSY else 1)
    part = decode_for_training(encoded, 16, (1, 2), "v2", crop=True, flip=True)
    assert part.shape == (16, 16, 3)


def test_of_16_bits_the_upper_8_are_taken():
    levels = np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20)
    image = decode(encode(image_module.fromarray(levels), "png"))
    np.testing.assert_array_equal(image, np.repeat((levels >> 8)[:, :, None], 3, axis=2))


def test_first_frame_of_an_animation():
    frames = [image_module.new("RGB", (7, 5), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    encoded = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(encoded)[2, 3], [250, 0, 0], atol=5)


def test_an_animated_webp_without_transparency_is_refused():
    """TensorFlow would write over other memory, were it left to find the number of channels itself."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="WebP"):
        decode(animation("webp", colours()))


# --- headers ---


def with_size(kind, width, height):
    """An encoded picture whose header tells another size."""
    encoded = bytearray({**LOSSLESS, **LOSSY}[kind]())
    if kind == "png":
        encoded[16:24] = struct.pack(">II", width, height)
    elif kind == "jpeg":
        place = encoded.find(b"\xff\xc0") + 5
        encoded[place : place + 4] = struct.pack(">HH", height, width)
    elif kind == "animated gif":  # of the first frame, which stands behind two extensions
        place = encoded.find(b",\0\0\0\0") + 5
        encoded[place : place + 4] = struct.pack("<HH", width, height)
    elif kind == "webp":
        encoded[26:30] = struct.pack("<HH", width, height)
    elif kind == "lossless webp":
        encoded[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    elif kind == "webp with transparency":
        encoded[24:30] = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return bytes(encoded)


READERS = {
    "decode": decode,
    "training": lambda encoded: decode_for_training(encoded, 16, (1, 2), "v2", crop=True, flip=True),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["png", "jpeg", "animated gif", "webp", "lossless webp", "webp with transparency"])
def test_a_decompression_bomb_is_refused(kind, reader):
    encoded = with_size(kind, 15000, 16000)
    dataset = tf.data.Dataset.from_tensors(encoded).map(READERS[reader])
    message = r"Expected a picture of 1 to 89,478,485 pixels. Height and width in the header:\] \[16000 15000\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        next(dataset.as_numpy_iterator())


@pytest.mark.parametrize("kind", ["png", "jpeg", "animated gif", "webp"])
@pytest.mark.parametrize("width, height", [(0, 40), (52, 0)])
def test_a_picture_without_pixels_is_refused(kind, width, height):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(with_size(kind, width, height))


def test_the_limit_itself_is_let_through(monkeypatch):
    pixels = colours().width * colours().height
    for limit, refused in ((pixels, False), (pixels - 1, True)):
        monkeypatch.setattr(image_formats, "MAX_PIXELS", limit)
        for kind in ("jpeg", "png", "gif", "lossless webp"):
            encoded = {**LOSSLESS, **LOSSY}[kind]()
            if refused:
                with pytest.raises(tf.errors.InvalidArgumentError, match="Height and width"):
                    decode(encoded)
            else:
                assert decode(encoded).shape == (40, 52, 3)


@pytest.mark.parametrize("graph", [False, True])
def test_other_formats_are_refused(graph):
    run = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)]) if graph else decode
    for encoded in (b"", b"\xff", b"hello", b"RIFF\xff\xff\xff\xffWAVE", encode(colours(), "tiff")):
        message = rf"in the format JPEG, PNG, GIF, BMP or WebP.* \[{len(encoded)}\]"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            run(encoded)


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "palette bmp", "lossless webp"])
def test_a_file_that_is_cut_raises(kind):
    encoded = {**LOSSLESS, **LOSSY}[kind]()
    for length in (5, 14, 20, 60):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(encoded[:length])
