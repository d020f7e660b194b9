"""From encoded bytes to images of the network's size.

The geometry and the arithmetic are the official release's: one way for S, M, L and XL ("v2"), one for B0-B3 and
all of EfficientNet V1 ("v1"), one for fine-tuning ("finetune").
"""

import tensorflow as tf

from efficientnetv2_tf.networks import preprocessing

STYLES = preprocessing.STYLES
# From this size on the release takes whole pictures in evaluation, where smaller networks take their centre.
_WHOLE_IMAGE_SIZE = 320


def decode(image_bytes):
    """Decodes JPEG, PNG, GIF (first frame) or BMP bytes.

    Args:
        image_bytes: string scalar.

    Returns:
        uint8 [height, width, 3].
    """
    image = tf.io.decode_image(image_bytes, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def normalize(images, style):
    """Scales pixel values to what the network was made for.

    Args:
        images: [..., 3], any type, 0..255.
        style: one of `STYLES`, see `networks.preprocessing.normalize`.

    Returns:
        float32 of the same shape.
    """
    return preprocessing.normalize(tf.convert_to_tensor(images), style)


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
    preprocessing.check_style(style)
    if crop and (style == "v1" or (style == "v2" and image_size < _WHOLE_IMAGE_SIZE)):
        image = _centre(image, image_size, rounding_up=style == "v1")
    return resize(image, image_size, style)


def _centre(image, image_size, *, rounding_up):
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(image_size / (image_size + 32) * shorter, tf.int32)
    top, left = (height - side + int(rounding_up)) // 2, (width - side + int(rounding_up)) // 2
    return image[top : top + side, left : left + side]


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


def random_crop(image, seed, style):
    """Cuts out a random part: 5 % to all of the area ("v1": from 8 %), aspect ratio 3/4 to 4/3.

    Args:
        image: [height, width, 3], any type.
        seed: int32 [2].
        style: one of `STYLES`.

    Returns:
        [h, w, 3] of the same type.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([0, 0, 4], tf.float32),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08 if style == "v1" else 0.05, 1.0),
        max_attempts=10 if style == "v1" else 100,
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, begin, size)
    image.set_shape([None, None, 3])
    return image


def resize_for_training(image, image_size, seed, style, *, crop, flip):
    """Random part of a picture, resized and possibly mirrored.

    Args:
        image: uint8 [height, width, 3].
        image_size: side in pixels, a number or int32 scalar.
        seed: int32 [2].
        style: one of `STYLES`.
        crop: whether to cut out a random part; otherwise all of the picture is used.
        flip: whether to mirror left and right with probability 1/2.

    Returns:
        uint8 [image_size, image_size, 3].
    """
    # With one seed for both, mirroring would follow the crop: narrow parts mirrored, wide ones not.
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    if crop:
        image = random_crop(image, crop_seed, style)
    image = resize(image, image_size, style)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return tf.saturate_cast(tf.round(image), tf.uint8)
