"""MixUp and CutMix: arithmetic, areas, distributions and live switches."""

import math

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import mixing


def batch(count, height=12, width=10, classes=None, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=[count, height, width, 3]).astype(np.float32)
    labels = np.eye(classes or count, dtype=np.float32)[np.arange(count) % (classes or count)]
    return images, labels


def own_share(labels):
    """Label weight that each example kept of its own class, for labels that were the unit matrix."""
    return np.diagonal(labels).astype(np.float64)


class TestMixup:
    @pytest.mark.parametrize("count", [1, 2, 7, 8])
    def test_images_and_labels_share_the_weight(self, count):
        images, labels = batch(count)
        mixed, mixed_labels = mixing.mixup(images, labels, 0.5, (1, 2))
        weight = own_share(mixed_labels)
        weight[count // 2 : (count + 1) // 2] = 1  # the middle of an odd batch is its own partner
        assert (weight >= 0.5).all()
        expected = weight[:, None, None, None] * images + (1 - weight)[:, None, None, None] * images[::-1]
        np.testing.assert_allclose(mixed, expected, atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(mixed_labels, axis=1), 1, atol=1e-6)

    def test_each_example_has_its_own_weight(self):
        _, labels = mixing.mixup(*batch(8), 1.0, (3, 4))
        assert len(np.unique(own_share(labels.numpy()))) == 8

    @pytest.mark.parametrize("alpha", [1e-12, 0.01, 0.2, 0.5, 1.0, 2.0])
    def test_weight_follows_beta(self, alpha):
        # E[max(w, 1 - w)] = 1/2 + E|w - 1/2| = 1/2 + 1 / (4 ** alpha * alpha * Beta(alpha, alpha))
        log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
        mean = 0.5 + 1 / (4**alpha * alpha * math.exp(log_beta))
        images, labels = np.zeros([20000, 1, 1, 3], np.float32), np.zeros([20000, 2], np.float32)
        labels[:10000, 0] = labels[10000:, 1] = 1
        _, mixed = mixing.mixup(images, labels, alpha, (5, 6))
        weight = np.max(mixed, axis=1)
        assert np.isfinite(weight).all()
        assert weight.mean() == pytest.approx(mean, abs=0.005)

    def test_follows_half_precision_images(self):
        images, labels = batch(4)
        mixed, labels = mixing.mixup(tf.cast(images, tf.bfloat16), labels, 0.5, (1, 2))
        assert mixed.dtype == tf.bfloat16
        assert labels.dtype == tf.float32


class TestCutmix:
    @pytest.mark.parametrize("count, height, width", [(2, 12, 10), (7, 9, 16), (32, 13, 5)])
    def test_a_box_an_example_and_its_area_in_the_label(self, count, height, width):
        images, labels = batch(count, height, width)
        mixed, mixed_labels = (np.array(part) for part in mixing.cutmix(images, labels, 1.0, (1, 2)))
        for place in range(count):
            partner = count - 1 - place
            if place == partner:
                np.testing.assert_array_equal(mixed[place], images[place])
                continue
            taken = (mixed[place] == images[partner]).all(axis=-1)
            assert (taken | (mixed[place] == images[place]).all(axis=-1)).all()
            rows, columns = taken.any(axis=1).sum(), taken.any(axis=0).sum()
            assert taken.sum() == rows * columns  # a rectangle
            share = taken.mean()
            np.testing.assert_allclose(mixed_labels[place, partner], share, atol=1e-6)
            np.testing.assert_allclose(mixed_labels[place, place], 1 - share, atol=1e-6)

    def test_boxes_follow_beta_and_lie_anywhere(self):
        begin, end = (np.array(part) for part in mixing._boxes(1.0, 20000, tf.constant([400, 200]), (1, 2)))
        assert (begin >= 0).all() and (end <= [400, 200]).all() and (end >= begin).all()
        whole = (begin > 0).all(axis=1) & (end < [400, 200]).all(axis=1)
        sides = (end - begin)[whole]
        np.testing.assert_allclose(sides[:, 0], 2 * sides[:, 1], atol=5)  # the image's proportions
        # alpha 1: ratio r = sqrt(1 - w), w uniform, P(r < x) = x ** 2; the side, cut off at the borders, is
        # r - r ** 2 / 4 of the image's on average, and the mean of that is 2 / 3 - 1 / 8.
        np.testing.assert_allclose((end - begin).mean(axis=0) / [400, 200], 2 / 3 - 1 / 8, atol=0.012)
        np.testing.assert_allclose(((begin + end) / 2).mean(axis=0) / [400, 200], 0.5, atol=0.01)

    def test_tiny_alpha_takes_all_or_nothing(self):
        begin, end = mixing._boxes(1e-12, 2000, tf.constant([10, 10]), (1, 2))
        empty = (end - begin).numpy().max(axis=1) == 0
        assert empty.mean() == pytest.approx(0.5, abs=0.05)
        assert ((end - begin).numpy()[~empty] >= 5).all()  # a whole side, cut off at most by half


class TestMix:
    def test_both_off_is_bit_equal(self):
        images, labels = batch(5)
        images[0, 0, 0] = [np.inf, np.nan, -0.0]
        for off in (0, 0.0, tf.Variable(0.0)):
            mixed, mixed_labels = mixing.mix(images, labels, off, off, (1, 2))
            assert mixed.numpy().tobytes() == images.tobytes()
            np.testing.assert_array_equal(mixed_labels, labels)

    @pytest.mark.parametrize("mixup_alpha, cutmix_alpha", [(0.4, 0), (0, 0.4), (0.4, 0.4)])
    @pytest.mark.parametrize("count", [1, 2, 9, 16])
    def test_label_rows_sum_to_one(self, count, mixup_alpha, cutmix_alpha):
        images, labels = batch(count, classes=3)
        mixed, mixed_labels = mixing.mix(images, labels, mixup_alpha, cutmix_alpha, (1, 2))
        assert mixed.shape == images.shape
        assert mixed_labels.dtype == tf.float32
        np.testing.assert_allclose(tf.reduce_sum(mixed_labels, axis=1), 1, atol=1e-6)

    def test_half_each(self):
        images, labels = batch(9)
        mixed, mixed_labels = (np.array(part) for part in mixing.mix(images, labels, 1.0, 1.0, (1, 2)))
        assert (mixed_labels[:4, 4:] == 0).all() and (mixed_labels[4:, :4] == 0).all()
        partner = [3, 2, 1, 0, 8, 7, 6, 5, 4]
        copied = ((mixed == images) | (mixed == images[partner])).mean(axis=(1, 2, 3))
        assert (copied[:4] < 0.1).all()  # MixUp blends
        assert (copied[4:] == 1).all()  # CutMix copies

    @pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 0.4), (0.4, 0.4)])
    def test_numbers_and_variables_agree(self, alphas):
        images, labels = batch(6)
        expected = mixing.mix(images, labels, *alphas, (1, 2))
        for live in ([tf.Variable(alpha) for alpha in alphas], (alphas[0], tf.constant(alphas[1]))):
            for got, want in zip(mixing.mix(images, labels, *live, (1, 2)), expected, strict=True):
                np.testing.assert_array_equal(got, want)

    def test_live_switch_inside_tf_data(self):
        mixup_alpha, cutmix_alpha = tf.Variable(0.0), tf.Variable(0.0)
        images, labels = batch(8)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
        dataset = dataset.map(lambda x, y: mixing.mix(x, y, mixup_alpha, cutmix_alpha, (1, 2)))
        assert dataset.element_spec[0].shape.as_list() == [None, 12, 10, 3]
        for alphas in ((0.0, 0.0), (0.7, 0.0), (0.0, 0.7), (0.7, 0.7), (0.0, 0.0)):
            mixup_alpha.assign(alphas[0])
            cutmix_alpha.assign(alphas[1])
            expected = mixing.mix(images, labels, *alphas, (1, 2))
            for got, want in zip(next(iter(dataset)), expected, strict=True):
                np.testing.assert_allclose(got, want, atol=1e-6)

    def test_unknown_sizes(self):
        def run(count):
            images = tf.random.stateless_normal([count, count + 4, count + 6, 3], tf.stack([count, 0]))
            return mixing.mix(images, tf.one_hot(tf.range(count), count), 0.5, 0.5, tf.stack([count, 1]))

        dataset = tf.data.Dataset.range(1, 6, output_type=tf.int32).map(run)
        for count, (images, labels) in enumerate(dataset, start=1):
            assert images.shape == [count, count + 4, count + 6, 3]
            np.testing.assert_allclose(tf.reduce_sum(labels, axis=1), 1, atol=1e-6)

    @pytest.mark.parametrize("alphas", [(0.5, 0), (0, 0.5), (0.5, 0.5)])
    def test_same_seed_same_result(self, alphas):
        images, labels = batch(8)
        seeds = [(1, 2), (1, 2), (1, 3)]
        first, again, other = (mixing.mix(images, labels, *alphas, seed)[0] for seed in seeds)
        np.testing.assert_array_equal(first, again)
        assert (first.numpy() != other.numpy()).any()

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"images": np.zeros([2, 4, 4, 3], np.uint8)}, "should be floating point.*dtype=uint8"),
            ({"images": np.zeros([4, 4, 3], np.float32)}, r"shape=\(4, 4, 3\). Mix after batching"),
            ({"labels": np.zeros([2], np.int64)}, "should be float32.*tf.one_hot"),
            ({"mixup_alpha": -1}, "`mixup_alpha` should be 0"),
            ({"cutmix_alpha": -0.2}, "`cutmix_alpha` should be 0"),
        ],
    )
    def test_errors(self, options, message):
        images, labels = batch(2)
        arguments = {"images": images, "labels": labels, "mixup_alpha": 0, "cutmix_alpha": 0, **options}
        with pytest.raises(ValueError, match=message):
            mixing.mix(**arguments, seed=(0, 0))
