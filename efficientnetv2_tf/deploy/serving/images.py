"""Looks at the headers of pictures before a graph decodes them.

The graphs of `deploy.saved_model` do it themselves; other people's models, which are served as well, mostly do not.
"""

import io

from PIL import Image

from efficientnetv2_tf.data.image_check import MAX_PIXELS
from efficientnetv2_tf.deploy.serving.tensors import RequestError

INPUT = "image_bytes"  # the input that holds encoded pictures, by the name that most models give it
MAX_PICTURES = 256  # of a request: a body may hold millions of empty ones, and a graph looks at each
# What the formats begin with that TensorFlow decodes; WebP's beginning may be another file's as well.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def check_pictures(tensors):
    """Keeps pictures that would fill the memory, or take for ever, away from a graph.

    Args:
        tensors: dictionary of name -> array. Strings are taken for a picture, whatever their input's name is, where
            they begin like one.

    Returns:
        The same, with b"" for each picture whose header announces more than `MAX_PIXELS` pixels: a graph takes it for
        one that cannot be decoded, and does with the other rows what it does then.

    Raises:
        RequestError: an input has no other rows, or more than `MAX_PICTURES`.
    """
    strings = {name: array for name, array in tensors.items() if array.dtype == object}
    return {**tensors, **{name: _checked(name, array) for name, array in strings.items()}}


def _checked(name, strings):
    pictures = [index for index, string in enumerate(strings.flat) if string.startswith(_BEGINNINGS)]
    count = strings.size if name == INPUT else len(pictures)
    if count > MAX_PICTURES:
        raise RequestError(f"{name}: a request may have {MAX_PICTURES} pictures. Received: {count:,}")
    bombs = [index for index in pictures if _is_bomb(strings.flat[index])]
    if not bombs:
        return strings
    if len(bombs) == strings.size:
        raise RequestError(f"{name}: the header announces more than {MAX_PIXELS:,} pixels: it was not decoded.")
    harmless = strings.copy()
    harmless.flat[bombs] = b""
    return harmless


def _is_bomb(encoded):
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:  # Pillow's own limit is twice ours
        return True
    except Exception:  # whatever Pillow's many readers raise: then the graph's decoder judges
        return False
