"""Whether an encoded picture can be used, and why not.

TensorFlow's decoder judges, because it is what a training reads with; Pillow tells what the file is.
"""

import contextlib
import dataclasses
import io
import struct
import warnings

import tensorflow as tf
from PIL import Image

from efficientnetv2_tf.data.decode import decode
from efficientnetv2_tf.data.image_formats import MAX_PIXELS

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_MAGIC = {b"BM": "BMP", b"GIF8": "GIF", b"\xff\xd8": "JPEG", b"\x89PNG": "PNG"}  # WebP's is not at the beginning
_LEAST_HEADER = 26  # bytes to the end of the size, in BMP
_FAILED_CHECK = "assertion failed: "  # what TensorFlow puts in front of the message of an Assert
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers in front of the size


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """What is known of an encoded picture.

    Attributes:
        format: one of `FORMATS`, or another of Pillow's names, or "" if it is none.
        mode: Pillow's name of the colours, such as "RGB" or "CMYK", or "".
        width: in pixels; 0 where it is not known.
        height: likewise.
        problem: "empty", "cut", "damaged", "zero size", "decompression bomb", "other format", "not an image", or "" if
            the picture is good.
        detail: more about the problem.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""
    detail: str = ""


def check_image(encoded, *, max_pixels=MAX_PIXELS):
    """Decodes a picture as a training does.

    Args:
        encoded: bytes of the file.
        max_pixels: pictures whose header announces more are not decoded, and count as decompression bombs.

    Returns:
        `ImageFacts`.
    """
    facts = _read_header(encoded)
    if facts.width * facts.height > max_pixels:
        detail = f"{facts.width:,} x {facts.height:,} pixels in {len(encoded):,} bytes; the limit is {max_pixels:,}"
        return dataclasses.replace(facts, problem="decompression bomb", detail=detail)
    try:
        height, width, _ = decode(tf.constant(encoded)).shape
    except tf.errors.OpError as error:
        problem, detail = _explain(encoded, facts.format, error)
        return dataclasses.replace(facts, problem=problem, detail=detail)
    if not height * width:
        return dataclasses.replace(facts, problem="zero size", detail=f"{width} x {height} pixels")
    return dataclasses.replace(facts, width=width, height=height)


def error_text(error):
    """What a TensorFlow error says, without where in TensorFlow it arose."""
    text = error.message.partition(" [Op:")[0].rpartition("}} ")[2].rstrip(".")
    if text.startswith(_FAILED_CHECK):  # of ours, with each of its parts in brackets
        return text.removeprefix(_FAILED_CHECK)[1:-1].replace("] [", " ")
    return text


@contextlib.contextmanager
def pillow_without_limit():
    """Pillow without its own limit and its warnings, which are the process's; `check_image` needs it around."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read_header(encoded):
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            kind = "JPEG" if image.format == "MPO" else image.format  # several JPEGs in a row, of which one is read
            return ImageFacts(kind, image.mode, *image.size)
    except Exception:  # whatever Pillow's many readers raise where a header is damaged
        return ImageFacts(_format_of(encoded))


def _format_of(encoded):
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC.items() if encoded.startswith(magic)), "")


def _explain(encoded, kind, error):
    """(problem, detail) of a picture that cannot be decoded."""
    if not encoded:
        return "empty", "0 bytes"
    if not kind:
        return "not an image", f"{len(encoded):,} bytes that begin with {encoded[:12]!r}"
    if kind not in FORMATS:
        return "other format", f"{kind}; expected one of {', '.join(FORMATS)}"
    size = _announced_size(encoded, kind)
    if size and 0 in size:
        return "zero size", f"the header says {size[0]} x {size[1]} pixels"
    if _is_cut(encoded, kind):
        return "cut", f"{kind} that ends too early, after {len(encoded):,} bytes"
    return "damaged", error_text(error)


def _announced_size(encoded, kind):
    """(width, height) as in the header, or None if it is cut. Pillow reads no pictures of size 0."""
    try:
        if kind == "PNG":
            return struct.unpack_from(">II", encoded, 16)
        if kind == "GIF":
            return struct.unpack_from("<HH", encoded, 6)
        if kind == "BMP":
            return struct.unpack_from("<ii", encoded, 18)
        if kind == "WEBP":
            if encoded[12:16] != b"VP8 ":  # the other kinds store their size less one
                return None
            return tuple(side & 0x3FFF for side in struct.unpack_from("<HH", encoded, 26))
        return _jpeg_size(encoded)
    except (struct.error, IndexError):
        return None


def _jpeg_size(encoded):
    position = 2
    while True:
        marker, length = encoded[position + 1], struct.unpack_from(">H", encoded, position + 2)[0]
        if marker in _START_OF_FRAME:
            return struct.unpack_from(">HH", encoded, position + 5)[::-1]
        position += 2 + length


def _is_cut(encoded, kind):
    """Whether the end is missing, which each format marks or announces."""
    if kind == "JPEG":
        return not encoded.endswith(b"\xff\xd9")
    if kind == "PNG":
        return b"IEND\xaeB`\x82" not in encoded[-64:]
    if kind == "GIF":
        return not encoded.endswith(b";")
    start, added = (2, 0) if kind == "BMP" else (4, 8)  # WebP counts what comes behind its length
    announced = int.from_bytes(encoded[start : start + 4], "little") + added
    return len(encoded) < max(announced, _LEAST_HEADER)
