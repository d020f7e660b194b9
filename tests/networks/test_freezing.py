"""What is frozen stays as it is to the bit, through real training steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.networks.freezing import freeze, freeze_batch_norm, unfreeze
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.hparams import TrainConfig
from efficientnetv2_tf.training.optimizers import make_optimizer

STATISTICS = ("moving_mean", "moving_variance")
IMAGES = np.random.default_rng(0).normal(size=[12, 33, 40, 3]).astype(np.float32)
LABELS = np.arange(12) % 5


BLOCKS = ("r1_k3_s1_e1_i8_o8_c1", "r2_k3_s2_e2_i8_o8_se0.25", "r1_k3_s2_e2_i8_o16_c1")


def network(**options):
    keras.utils.set_random_seed(0)
    return get_model("testing", **{"blocks": BLOCKS, "num_classes": 5, **options})


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), loss, jit_compile=False)
    return model


def values(model):
    return {variable.path: variable.numpy() for variable in model.weights}


def changed(model, before):
    return {path for path, value in values(model).items() if not np.array_equal(value, before[path])}


def fit(model):
    """Three training steps; the paths of what they changed."""
    before = values(model)
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    return changed(model, before)


def parts(model, *names):
    """The paths of the variables whose layer has one of the names."""
    return {variable.path for variable in model.weights if variable.path.split("/")[0] in names}


def paths(model):
    return {variable.path for variable in model.weights}


class TestTrainingSteps:
    @pytest.mark.parametrize(
        "until, trained",
        [
            ("head", ["classifier"]),
            ("blocks_3", ["head_conv", "head_norm", "classifier"]),
            ("reduction_2", ["blocks_3", "head_conv", "head_norm", "classifier"]),
            ("blocks_1", ["blocks_2", "blocks_3", "head_conv", "head_norm", "classifier"]),
            (1, ["blocks_1", "blocks_2", "blocks_3", "head_conv", "head_norm", "classifier"]),
            ("stem", ["blocks_0", "blocks_1", "blocks_2", "blocks_3", "head_conv", "head_norm", "classifier"]),
        ],
    )
    def test_change_what_is_trainable_and_nothing_else(self, until, trained):
        model = network()
        freeze(model, until)
        assert fit(compiled(model)) == parts(model, *trained)

    def test_freeze_and_thaw_by_stages(self):
        model = network()
        for thaw, trained in [
            (lambda: freeze(model), parts(model, "classifier")),
            (lambda: freeze(model, 2), parts(model, "blocks_3", "head_conv", "head_norm", "classifier")),
            (lambda: unfreeze(model), paths(model)),
        ]:
            thaw()
            assert fit(compiled(model)) == trained
        assert all(variable.trainable != variable.path.endswith(STATISTICS) for variable in model.weights)

    def test_batch_norm_alone(self):
        model = network()
        freeze_batch_norm(model)
        assert fit(compiled(model)) == {path for path in paths(model) if "_norm/" not in path}
        unfreeze(model)
        assert fit(compiled(model)) == paths(model)

    def test_batch_norm_besides(self):
        model = network()
        freeze(model, 2)
        freeze_batch_norm(model)
        rest = parts(model, "blocks_3", "head_conv", "head_norm", "classifier")
        assert fit(compiled(model)) == {path for path in rest if "_norm/" not in path}

    def test_a_network_that_was_trained_before_forgets_its_step(self):
        """Keras would go on with the step that it traced when all was trainable."""
        model = compiled(network())
        assert fit(model) == paths(model)
        freeze(model)
        assert fit(model) == parts(model, "classifier")
        freeze_batch_norm(model)
        assert fit(model) == parts(model, "classifier")

    def test_group_normalisation(self):
        model = network(normalization="group")
        freeze_batch_norm(model)
        assert len(model.trainable_variables) == len(model.weights)
        freeze(model, "reduction_2")
        assert fit(compiled(model)) == parts(model, "blocks_3", "head_conv", "head_norm", "classifier")

    def test_synchronised_batch_normalisation(self):
        model = network(normalization="sync_batch")
        freeze(model)
        assert fit(compiled(model)) == parts(model, "classifier")

    def test_the_project_s_own_with_weight_decay_and_averages(self):
        """Loss with L2, decoupled weight decay, and the average of all weights."""
        for optimizer in ("adamw", "rmsprop"):
            model = network()
            freeze(model, 2)
            average = MovingAverage(model.weights, 0.9)
            classifier = Classifier(model, l2=0.1, label_smoothing=0.1, average=average)
            config = TrainConfig(optimizer=optimizer, weight_decay=0.1)
            classifier.compile(make_optimizer(config, 0.01, model.trainable_variables), jit_compile=False)
            before = values(model)
            batches = tf.data.Dataset.from_tensor_slices((IMAGES, tf.one_hot(LABELS, 5))).batch(4)
            classifier.fit(batches, verbose=0, shuffle=False)
            frozen = parts(model, "stem_conv", "stem_norm", "blocks_0", "blocks_1", "blocks_2")
            assert changed(model, before) == paths(model) - frozen
            for path, mean in average.averages.items():
                assert np.array_equal(mean.numpy(), before[path]) == (path in frozen)


class TestFrozenLayers:
    def test_do_in_training_what_they_do_in_inference(self):
        model = network(dropout_rate=0, drop_connect_rate=0.9)
        assert np.abs(model(IMAGES, training=True) - model(IMAGES)).max() > 0.01
        freeze(model)
        np.testing.assert_allclose(model(IMAGES, training=True), model(IMAGES), atol=1e-4)

    def test_the_rest_still_drops(self):
        model = network(dropout_rate=0.5, drop_connect_rate=0.9)
        freeze(model)
        assert np.abs(model(IMAGES, training=True) - model(IMAGES)).max() > 0.01  # dropout
        model = network(dropout_rate=0, drop_connect_rate=0.9)
        freeze_batch_norm(model)
        assert np.abs(model(IMAGES, training=True) - model(IMAGES)).max() > 0.01  # stochastic depth

    def test_inside_another_model(self):
        model = network(include_top=False, pooling="avg")
        freeze(model)
        outer = compiled(keras.Sequential([keras.Input([None, None, 3]), model, keras.layers.Dense(5, name="head")]))
        assert {path.split("/")[-2] for path in fit(outer)} == {"head"}

    def test_a_network_without_head(self):
        model = network(features_only=True)
        freeze(model)
        assert not model.trainable_variables
        freeze(model, "reduction_2")
        assert {variable.path.split("/")[0] for variable in model.trainable_variables} == {"blocks_3"}


class TestArguments:
    @pytest.mark.parametrize("until", ["classifier", "reduction_6", "blocks_7", "blocks_-1", 0, 6, None, "images"])
    def test_no_such_part(self, testing_model, until):
        message = (
            r"`until` should be 'stem', a stage's number from 1 to 5, one of 'reduction_1', .*'reduction_5', a block "
            rf"from 'blocks_0' to 'blocks_6', or 'head'\. Received: until={until!r}"
        )
        with pytest.raises(ValueError, match=message):
            freeze(testing_model, until)
        assert testing_model.trainable_variables

    @pytest.mark.parametrize("call", [freeze, freeze_batch_norm, unfreeze])
    def test_another_model(self, call):
        with pytest.raises(ValueError, match="`model` should be an EfficientNet, as get_model makes it"):
            call(keras.Sequential([keras.Input([4]), keras.layers.Dense(3)]))
