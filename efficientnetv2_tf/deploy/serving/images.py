"""Looks at the headers of pictures before a graph decodes them.

The graphs of `deploy.saved_model` do it themselves; other people's models, which are served as well, mostly do not.
"""

import io

import numpy as np
from PIL import Image

from efficientnetv2_tf.data.image_check import MAX_PIXELS
from efficientnetv2_tf.deploy.serving.tensors import RequestError

INPUT = "image_bytes"  # the input that holds encoded pictures
MAX_PICTURES = 256  # of a request: a body may hold millions of empty ones, and a graph looks at each


def check_pictures(tensors):
    """Keeps pictures that would fill the memory, or take for ever, away from a graph.

    Args:
        tensors: dictionary of name -> array; only `INPUT` is looked at.

    Returns:
        The same, with b"" for each picture whose header announces more than `MAX_PIXELS` pixels: a graph takes it for
        one that cannot be decoded, and does with the other rows what it does then.

    Raises:
        RequestError: there are no other rows, or more than `MAX_PICTURES`.
    """
    pictures = tensors.get(INPUT, np.empty(0, object))
    if pictures.size > MAX_PICTURES:
        raise RequestError(f"A request may have {MAX_PICTURES} pictures. Received: {pictures.size:,}")
    bombs = np.array([_is_bomb(encoded) for encoded in pictures.flat], bool).reshape(pictures.shape)
    if not bombs.any():
        return tensors
    if bombs.all():
        raise RequestError(f"A picture may have {MAX_PIXELS:,} pixels. The header announces more: it was not decoded.")
    return {**tensors, INPUT: np.where(bombs, b"", pictures)}


def _is_bomb(encoded):
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:  # Pillow's own limit is twice ours
        return True
    except Exception:  # whatever Pillow's many readers raise: then the graph's decoder judges
        return False
