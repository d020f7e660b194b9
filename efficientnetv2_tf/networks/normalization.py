"""The normalisation after a convolution, by its name. Needs no Keras until a layer is made.

Sources: Batch Normalization (Ioffe & Szegedy, ICML 2015); Group Normalization (Wu & He, ECCV 2018). Momentum, epsilon
and the number of groups are the official release's.
"""

NORMALIZATIONS = ("batch", "sync_batch", "group")
FOLDED = "folded"  # into the convolutions before, which have biases: see folding.py
MOMENTUM = 0.9  # of the moving mean and variance
EPSILON = 1e-3
GROUPS = 8  # all channels of a network are multiples of 8, see `round_filters`


def check_normalization(normalization):
    """Raises a ValueError for a name that is neither one of `NORMALIZATIONS` nor `FOLDED`; gives it back otherwise."""
    if normalization not in (*NORMALIZATIONS, FOLDED):
        raise ValueError(
            f"`normalization` should be one of {NORMALIZATIONS}. Received: normalization={normalization!r}"
        )
    return normalization


def has_statistics(normalization):
    """Whether a normalisation keeps a moving mean and variance, as batch normalisations do.

    Args:
        normalization: one of `NORMALIZATIONS`, or `FOLDED`.
    """
    return check_normalization(normalization) in ("batch", "sync_batch")


def make_normalization(normalization, name=None):
    """The layer for a name.

    Args:
        normalization: "batch" takes mean and variance in training from the examples of each replica alone (and keeps
            the first replica's), "sync_batch" from those of all replicas, both with the same variables and the same
            inference; "group" takes them from 8 groups of channels of one example, in training and inference alike, and
            needs a multiple of 8 channels. Keras can synchronise on TensorFlow alone, so elsewhere "sync_batch" is
            "batch"; on JAX, whose arrays are the whole batch however many devices share it, that is the same.
            `FOLDED` is none at all: the convolution before has a bias (see `fold_normalization`).
        name: of the layer.

    Raises:
        ValueError: there is no such normalisation.
    """
    import keras

    if normalization == FOLDED:
        return keras.layers.Identity(name=name)
    if not has_statistics(normalization):
        return keras.layers.GroupNormalization(GROUPS, epsilon=EPSILON, name=name)
    synchronized = normalization == "sync_batch" and keras.backend.backend() == "tensorflow"
    from efficientnetv2_tf.networks.layers import BatchNormalization

    return BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, synchronized=synchronized, name=name)
