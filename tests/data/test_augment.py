"""RandAugment, AutoAugment and the noise square: the official release's tables, and the distributions."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data import augment, image_ops

REFERENCE = Path(__file__).parent / "reference"
ARGUMENTS = json.loads((REFERENCE / "randaugment_arguments.json").read_text())
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def augmented(function, count, image):
    """`function(image, seed)` for `count` seeds, in one graph."""
    seeds = tf.data.Dataset.range(count, output_type=tf.int32)
    dataset = seeds.map(lambda number: function(tf.constant(image), tf.stack([number, 7])))
    return list(dataset.as_numpy_iterator())


class TestRandAugmentArgument:
    @pytest.mark.parametrize("magnitude", ARGUMENTS)
    def test_equals_the_release(self, magnitude):
        assert set(ARGUMENTS[magnitude]) == set(image_ops.OP_NAMES)
        for name, expected in ARGUMENTS[magnitude].items():
            got = augment.randaugment_argument(name, float(magnitude))
            tensor = augment.randaugment_argument(name, tf.Variable(float(magnitude)))
            if not expected:
                assert got is None and tensor is None
            else:
                assert got == expected[0], name
                assert tensor.dtype == tf.float32
                np.testing.assert_allclose(tensor, expected[0], rtol=1e-6, err_msg=name)

    @pytest.mark.parametrize("magnitude", [-0.1, 30.5, float("nan")])
    def test_magnitude_out_of_range(self, magnitude):
        with pytest.raises(ValueError, match=r"`magnitude` should be in 0\.\.30"):
            augment.randaugment_argument("Rotate", magnitude)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="did you mean Sharpness"):
            augment.randaugment_argument("Sharpnes", 3)


def expected_results(image, magnitude):
    """Bytes of the augmented image -> (operation, sign); Cutout, whose place is random, is left out."""
    results = collections.defaultdict(set)
    for name, argument in ARGUMENTS[magnitude].items():
        for sign in (1, -1) if name in SIGNED else (1,):
            if name != "Cutout":
                value = np.float32(argument[0] * sign) if argument else None
                argument_tensor = None if value is None else tf.constant(value)
                result = image_ops.apply(name, image, argument_tensor).numpy()
                results[result.tobytes()].add((name, sign))
    return results


class TestRandAugment:
    def test_one_layer_draws_operations_and_signs_uniformly(self):
        image = random_image(128, 96)  # large enough for the shifts of 100 pixels at magnitude 8.3333 to show
        known = expected_results(image, "8.3333")
        assert all(len(names) == 1 for names in known.values())  # every outcome can be told from the others
        count = 1600
        run = lambda image, seed: augment.randaugment(image, 8.3333, seed, num_layers=1)  # noqa: E731
        results = [result.tobytes() for result in augmented(run, count, image)]
        outcomes = collections.Counter(next(iter(known.get(result, {("Cutout", 1)}))) for result in results)
        for name in image_ops.OP_NAMES:
            share = outcomes[name, 1] + outcomes[name, -1]
            assert abs(share - count / 16) < 4.5 * np.sqrt(count / 16), name
            if name in SIGNED:
                assert abs(outcomes[name, 1] - share / 2) < 4.5 * np.sqrt(share / 4), name

    def test_layers_are_independent_draws(self):
        image = random_image(8, 8)
        names = ("Invert", "TranslateX")  # at magnitude 25 a translation greys the whole image
        others = [name for name in image_ops.OP_NAMES if name not in names]
        run = lambda image, seed: augment.randaugment(image, 25, seed, exclude=others)  # noqa: E731
        results = augmented(run, 400, image)
        unchanged = sum((result == image).all() for result in results)  # Invert twice: 1 in 4
        grey = sum((result == 128).all() for result in results)  # TranslateX last: 1 in 2
        assert abs(unchanged - 100) < 4.5 * np.sqrt(75)
        assert abs(grey - 200) < 4.5 * np.sqrt(100)

    def test_same_seed_same_result(self):
        image = random_image(24, 24)
        results = [augment.randaugment(image, 10, seed).numpy() for seed in [(1, 2), (1, 2), (1, 3), (2, 2)]]
        np.testing.assert_array_equal(results[0], results[1])
        assert len({result.tobytes() for result in results}) == 3

    def test_live_magnitude_inside_tf_data_with_unknown_size(self):
        magnitude = tf.Variable(0.0)
        exclude = [name for name in image_ops.OP_NAMES if name != "Posterize"]
        image = random_image(8, 6)

        def run(side):
            dynamic = tf.tile(tf.constant(image), [side, 1, 1])
            return augment.randaugment(dynamic, magnitude, tf.stack([side, 0]), exclude=exclude)

        dataset = tf.data.Dataset.range(1, 4, output_type=tf.int32).map(run)
        for value, kept in ((0.0, 0x80), (10.0, 0xF0), (15.0, 0xFC), (30.0, 0xFF)):
            magnitude.assign(value)
            for side, result in enumerate(dataset.as_numpy_iterator(), start=1):
                np.testing.assert_array_equal(result, np.tile(image & kept, [side, 1, 1]))

    @pytest.mark.parametrize("magnitude", [0, 12.5, 30])
    def test_every_magnitude_is_legal(self, magnitude):
        image = random_image(9, 7)
        run = lambda image, seed: augment.randaugment(image, magnitude, seed)  # noqa: E731
        for result in augmented(run, 60, image):
            assert result.dtype == np.uint8 and result.shape == (9, 7, 3)

    def test_scale_pixels(self):
        image = random_image(56, 112)  # 56 / 224 of 100 pixels at magnitude 10: 25
        exclude = [name for name in image_ops.OP_NAMES if name != "TranslateX"]
        for scale_pixels, shift in ((True, 25), (False, 100)):
            result = augment.randaugment(
                image, 10, (3, 4), num_layers=1, scale_pixels=scale_pixels, exclude=exclude
            ).numpy()
            expected = [image_ops.apply("TranslateX", image, sign * shift).numpy() for sign in (1, -1)]
            assert any((result == candidate).all() for candidate in expected)

    def test_scale_pixels_of_cutout(self):
        image = np.zeros([56, 56, 3], np.uint8)
        exclude = [name for name in image_ops.OP_NAMES if name != "Cutout"]
        run = lambda image, seed: augment.randaugment(  # noqa: E731
            image, 10, seed, num_layers=1, scale_pixels=True, exclude=exclude
        )
        areas = [(result[..., 0] == 128).sum() for result in augmented(run, 40, image)]
        assert max(areas) == 20 * 20  # half a side: 40 * 56 / 224 = 10

    def test_no_layers_is_the_image(self):
        image = random_image(5, 5)
        np.testing.assert_array_equal(augment.randaugment(image, 10, (0, 0), num_layers=0), image)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"magnitude": 31}, r"`magnitude` should be in 0\.\.30. Received: magnitude=31"),
            ({"num_layers": -1}, "`num_layers` should be 0 or more"),
            ({"exclude": ["Sheer"]}, "did you mean Shear"),
            ({"exclude": "Invert"}, "should be a tuple of names"),
            ({"exclude": image_ops.OP_NAMES}, "should leave at least one"),
            ({"image": np.zeros([4, 4, 3], np.float32)}, "should be uint8"),
        ],
    )
    def test_errors(self, options, message):
        arguments = {"image": random_image(4, 4), "magnitude": 5, "seed": (0, 0), **options}
        with pytest.raises(ValueError, match=message):
            augment.randaugment(**arguments)


class TestAutoAugment:
    def test_policy_equals_the_release(self):
        expected = json.loads((REFERENCE / "autoaugment_policy_v0.json").read_text())
        assert [[list(step) for step in steps] for steps in augment.AUTOAUGMENT_POLICY] == expected

    def test_every_outcome_comes_from_a_sub_policy_at_its_rate(self):
        image = random_image(24, 20)
        expected = collections.Counter()  # bytes of the result -> probability
        for steps in augment.AUTOAUGMENT_POLICY:
            outcomes = [(1 / 25, image)]
            for step in steps:
                outcomes = [after for outcome in outcomes for after in self.after_step(step, *outcome)]
            for probability, result in outcomes:
                expected[result.tobytes()] += probability
        assert sum(expected.values()) == pytest.approx(1)

        count = 4000
        results = augmented(augment.autoaugment, count, image)
        counts = collections.Counter(result.tobytes() for result in results)
        assert set(counts) <= {outcome for outcome, probability in expected.items() if probability > 0}
        chi2 = sum(
            (counts[outcome] - probability * count) ** 2 / (probability * count)
            for outcome, probability in expected.items()
            if probability > 0
        )
        freedom = sum(probability > 0 for probability in expected.values()) - 1
        assert chi2 < freedom + 5 * np.sqrt(2 * freedom)

    @staticmethod
    def after_step(step, probability, image):
        name, chance, level = step
        outcomes = [(probability * (1 - chance), image)] if chance < 1 else []
        for sign in (1, -1) if name in SIGNED else (1,):
            argument = None
            if name not in image_ops.WITHOUT_ARGUMENT:
                argument = augment.randaugment_argument(name, level)
                if name == "TranslateY":
                    argument = level * 25.0
                argument = tf.constant(sign * argument, tf.float32)
            share = probability * chance / (2 if name in SIGNED else 1)
            outcomes.append((share, image_ops.apply(name, image, argument).numpy()))
        return outcomes

    def test_same_seed_same_result(self):
        image = random_image(24, 24)
        results = [augment.autoaugment(image, (9, number)).numpy() for number in (0, 0, 1, 2, 3)]
        np.testing.assert_array_equal(results[0], results[1])
        assert len({result.tobytes() for result in results}) > 2

    def test_unknown_size_and_scaled_pixels(self):
        dataset = tf.data.Dataset.range(3, 30, output_type=tf.int32).map(
            lambda side: augment.autoaugment(
                tf.ones([side, 2 * side, 3], tf.uint8), tf.stack([side, 1]), scale_pixels=True
            )
        )
        for side, result in enumerate(dataset.as_numpy_iterator(), start=3):
            assert result.shape == (side, 2 * side, 3)


class TestRandomErase:
    def test_square_of_bright_noise(self):
        image = np.zeros([32, 40, 3], np.uint8)
        results = augmented(augment.random_erase, 60, image)
        sizes = set()
        for result in results:
            hit = result.any(axis=-1)
            rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
            assert (result[np.ix_(rows, columns)] >= 128).all()  # the whole rectangle, and all channels
            assert hit.sum() == len(rows) * len(columns)
            sizes.add((len(rows), len(columns)))
        assert max(sizes) == (16, 16)  # 32 // 4 in both directions, whole where the borders allow it
        noise = np.concatenate([result[result > 0] for result in results]).astype(float)
        assert noise.min() == 128 and noise.max() == 255
        assert noise.mean() == pytest.approx(191.5, abs=0.5)
        assert noise.std() == pytest.approx(128 / np.sqrt(12), abs=0.5)

    def test_outside_is_untouched_and_seeds_differ(self):
        image = random_image(16, 16)
        first, again, other = (augment.random_erase(image, seed).numpy() for seed in [(1, 1), (1, 1), (5, 1)])
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        assert (first == image).all(axis=-1).sum() >= 16 * 16 - 8 * 8
