"""From encoded bytes to images of the network's size.

The geometry and the arithmetic are the official release's: one way for S, M, L and XL ("v2"), one for B0-B3 and
all of EfficientNet V1 ("v1"), one for fine-tuning ("finetune").
"""

import tensorflow as tf

from efficientnetv2_tf.data import image_formats
from efficientnetv2_tf.data.branches import one_of
from efficientnetv2_tf.networks import preprocessing

STYLES = preprocessing.STYLES
# From this size on the release takes whole pictures in evaluation, where smaller networks take their centre.
_WHOLE_IMAGE_SIZE = 320


@tf.autograph.experimental.do_not_convert
def decode(image_bytes):
    """Decodes a whole picture, in RGB.

    Grey is repeated, a palette looked up, CMYK converted; of 16 bits the upper 8 are taken. Transparency is dropped,
    and the orientation in a photograph's Exif data ignored, as in the official release.

    Args:
        image_bytes: string scalar, in the format JPEG, PNG, GIF (of which the first frame is decoded), BMP or WebP
            (animations with transparency only, likewise).

    Returns:
        uint8 [height, width, 3].

    Raises:
        tf.errors.InvalidArgumentError: another format, damaged, or of more than `image_formats.MAX_PIXELS` pixels.
    """
    index = image_formats.image_format(image_bytes)
    return one_of(image_formats.DECODERS)(index, [image_bytes], tf.TensorSpec([None, None, 3], tf.uint8))


def normalize(images, style):
    """Scales pixel values to what the network was made for.

    Args:
        images: [..., 3], any type, 0..255.
        style: one of `STYLES`, see `networks.preprocessing.normalize`.

    Returns:
        float32 of the same shape.
    """
    return preprocessing.normalize(tf.convert_to_tensor(images), style)


def normalize_bytes(images, style):
    """`normalize`, but for a last bit, in half to a third of its time on a CPU; for the input pipeline.

    Args:
        images: uint8 [batch, height, width, 3].
        style: one of `STYLES`.

    Returns:
        float32 of the same shape.
    """
    if style == "v2":  # one pass: x / 128 - 1 has no rounding
        return tf.raw_ops.Dequantize(input=tf.bitcast(images, tf.quint8), min_range=-1.0, max_range=127 / 128)
    if style != "v1":
        return normalize(images, style)
    # Three channels at the end make the slowest of arrays to broadcast over; so each row of pixels becomes one axis.
    scaling, width = preprocessing.SCALINGS[style], tf.shape(images)[2]
    mean, std = (tf.tile(tf.constant(values, tf.float32), [width]) for values in (scaling.mean, scaling.std))
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, 3 * width])
    return tf.reshape((rows - mean) / std, tf.shape(images))


def resize(image, image_size, style):
    """Resizes to a square, as the release does: bicubic for "v1" (corners not aligned), else bilinear.

    Args:
        image: [height, width, 3], any type.
        image_size: side in pixels, a number or int32 scalar.
        style: one of `STYLES`.

    Returns:
        float32 [image_size, image_size, 3]; bicubic may leave 0..255 by a little.
    """
    preprocessing.check_style(style)
    size = tf.stack([image_size, image_size])
    if style == "v1":
        return tf.raw_ops.ResizeBicubic(images=image[None], size=size)[0]
    return tf.image.resize(image, size)


def resize_for_eval(image, image_size, style, *, crop=True):
    """The part of a picture that evaluation looks at, resized.

    Args:
        image: [height, width, 3], any type.
        image_size: side in pixels.
        style: one of `STYLES`.
        crop: whether to look at the centre, a square of size / (size + 32) of the shorter side, where the
            release does ("v1" always, "v2" below 320 px, "finetune" never); False takes the whole picture.

    Returns:
        float32 [image_size, image_size, 3].
    """
    return resize(_cut(image, eval_window(tf.shape(image)[:2], image_size, style, crop=crop)), image_size, style)


def eval_window(sides, image_size, style, *, crop=True):
    """Which part of a picture evaluation looks at, see `resize_for_eval`.

    Args:
        sides: int32 [..., 2], height and width in pixels.
        image_size: side of the network's input in pixels.
        style: one of `STYLES`.
        crop: whether to look at the centre.

    Returns:
        int32 [..., 4]: top, left, height and width in pixels.
    """
    preprocessing.check_style(style)
    if crop and (style == "v1" or (style == "v2" and image_size < _WHOLE_IMAGE_SIZE)):
        return _centre(sides, image_size, rounding_up=style == "v1")
    return tf.concat([tf.zeros_like(sides), sides], axis=-1)


def _cut(image, window):
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


def _centre(shape, image_size, *, rounding_up):
    """The window (top, left, height, width) of a square in the middle of [..., (height, width)]."""
    share = tf.cast(image_size / (image_size + 32), tf.float32)
    side = tf.cast(share * tf.cast(tf.reduce_min(shape, axis=-1, keepdims=True), tf.float32), tf.int32)
    side = tf.maximum(side, 1)  # of pictures that are a pixel or two high or wide
    corner = (shape - side + int(rounding_up)) // 2
    return tf.concat([corner, side, side], axis=-1)


def preprocess_eval(image_bytes, image_size, style, *, crop=True):
    """The release's evaluation preprocessing, from bytes to the network's input.

    A training writes what it used into config.yaml: data.eval_image_size, data.preprocessing, and data.crop, where
    "none" is `crop=False`.

    Args:
        image_bytes: string scalar, an encoded picture.
        image_size: side in pixels.
        style: "v2" (S, M, L, XL), "v1" (B0-B3 and EfficientNet V1) or "finetune".
        crop: False looks at the whole picture, as after a training with `data.crop: none`.

    Returns:
        float32 [image_size, image_size, 3], normalised.
    """
    return normalize(resize_for_eval(decode(image_bytes), image_size, style, crop=crop), style)


@tf.autograph.experimental.do_not_convert
def decode_for_training(image_bytes, image_size, seed, style, *, crop, flip, crop_min_area=None):
    """Random part of an encoded picture, resized and possibly mirrored.

    Of a JPEG only that part is decoded, and at 1/2, 1/4 or 1/8 of its size where that still leaves `image_size` pixels
    in both directions. Each pixel is then the mean of the ones it stands for, so that such parts alias less than in the
    official release, which resizes without antialiasing. Colours that a JPEG keeps at half the resolution are repeated
    where evaluation interpolates between them. One that does not end as it should is decoded whole: if it was cut off
    it fails, whatever the part.

    The part has 5 % to all of the area and an aspect ratio of 0.75 to 1.33; with "v1" 10 % and more and 3/4 to 4/3, and
    where it is all of the picture, because ten draws did not fit into it, the centre is taken, as in evaluation. Where
    pictures are small or what matters is at their rim, `crop_min_area` keeps more of them.

    Args:
        image_bytes: string scalar, as for `decode`.
        image_size: side in pixels, a number, int32 scalar or variable.
        seed: int32 [2]. The same seed gives the same part, whatever the format.
        style: one of `STYLES`.
        crop: whether to cut out a random part; otherwise all of the picture is used.
        flip: whether to mirror left and right with probability 1/2.
        crop_min_area: smallest share of the picture's area that is cut out, in (0, 1); None is the release's. Of what
            is too large to be drawn with such an aspect ratio, as 0.9 of a picture of 3:2, all is taken.

    Returns:
        uint8 [image_size, image_size, 3].

    Raises:
        tf.errors.InvalidArgumentError: as `decode`.
    """
    preprocessing.check_style(style)

    def window(shape, side, seed):
        if not crop:
            return tf.concat([[0, 0], shape], axis=0)
        return _random_window(shape, side, seed, style, crop_min_area)

    def from_jpeg(image_bytes, side, seed):
        part = decode_part(image_bytes, window(image_formats.jpeg_size(image_bytes), side, seed), side)
        # The kernel takes floats in half the time of bytes, for the same result.
        return resize(tf.cast(part, tf.float32), side, style)

    def from_other(image_bytes, side, seed):
        image = decode(image_bytes)
        return resize(_cut(image, window(tf.shape(image)[:2], side, seed)), side, style)

    draws = _draws(seed)
    inputs = [image_bytes, tf.cast(image_size, tf.int32), draws[:2]]
    # A function of its own for what is rare: TensorFlow's executor passes by each node of a branch that is not run.
    other = one_of([from_other])
    image = tf.cond(
        image_formats.is_whole_jpeg(image_bytes),
        lambda: from_jpeg(*inputs),
        lambda: other(0, inputs, tf.TensorSpec([None, None, 3], tf.float32)),
    )
    image = _to_bytes(image, style)
    if flip:
        image = tf.cond(draws[2] < 0, lambda: tf.reverse(image, [1]), lambda: image)
    return image


def training_window(image_bytes, image_size, seed, style):
    """The part of a JPEG that `decode_for_training` cuts out, with `crop` and the release's smallest area.

    Args:
        image_bytes: string scalar.
        image_size: side in pixels, a number.
        seed: int32 [2], as given there.
        style: one of `STYLES`.

    Returns:
        int32 [4]: top, left, height and width in pixels.
    """
    return _random_window(image_formats.jpeg_size(image_bytes), image_size, _draws(seed)[:2], style, None)


def _draws(seed):
    """int32 [3]: a seed for the part, and whether it is mirrored."""
    return tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=tf.int32)


def _random_window(shape, image_size, seed, style, min_area):
    """(top, left, height, width): int32 [4], for a picture of [height, width]."""
    v1 = style == "v1"
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], axis=0),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=0.1 if v1 else 0.0,
        aspect_ratio_range=(3 / 4, 4 / 3) if v1 else (0.75, 1.33),
        area_range=(min_area or (0.08 if v1 else 0.05), 1.0),
        max_attempts=10 if v1 else 100,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    if not v1:
        return window
    return tf.where(tf.reduce_all(size[:2] == shape), _centre(shape, image_size, rounding_up=True), window)


def decode_part(image_bytes, window, least_side):
    """A part of a JPEG, at 1/2, 1/4 or 1/8 of its size where that leaves enough of it.

    Args:
        image_bytes: string scalar.
        window: int32 [4]: top, left, height and width in pixels.
        least_side: pixels that are to be left in both directions.

    Returns:
        uint8 [height, width, 3].
    """
    corners = tf.stack([window[:2], window[:2] + window[2:]])

    def decode_at(ratio):
        def run():
            begin, end = tf.unstack((corners + ratio // 2) // ratio)
            return tf.raw_ops.DecodeAndCropJpeg(
                contents=image_bytes,
                crop_window=tf.concat([begin, end - begin], axis=0),
                channels=3,
                ratio=ratio,
                fancy_upscaling=False,  # 0.3 to 1.2 levels of 255, for a twentieth of the time
            )

        return run

    times = tf.reduce_min(window[2:]) // least_side
    index = tf.reduce_sum(tf.cast(times >= tf.constant([2, 4, 8]), tf.int32))
    return tf.switch_case(index, [decode_at(ratio) for ratio in (1, 2, 4, 8)])


def _to_bytes(image, style):
    image = tf.round(image)
    if style == "v1":  # bicubic overshoots
        image = tf.clip_by_value(image, 0.0, 255.0)
    return tf.cast(image, tf.uint8)
