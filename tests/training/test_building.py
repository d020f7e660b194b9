"""What a configuration asks for is what is built."""

import pytest
import tensorflow as tf

from efficientnetv2_tf.training.building import build_classifier
from efficientnetv2_tf.training.hparams import resolve
from efficientnetv2_tf.training.recipes import load_config
from efficientnetv2_tf.training.rematerialize import Rematerialized


@pytest.mark.parametrize("parts, rematerialize", [(1, "none"), (4, "blocks")])
def test_memory_is_saved_where_asked(parts, rematerialize):
    overrides = f"model.num_classes=10,train.accumulate_steps={parts},train.rematerialize={rematerialize}"
    config = resolve(load_config("testing", overrides))
    classifier = build_classifier(config, tf.distribute.get_strategy(), steps_per_epoch=5, epochs=2)
    assert (classifier.accumulation.steps if classifier.accumulation else 1) == parts
    layers = classifier._train_call.__self__.layers
    assert any(isinstance(layer, Rematerialized) for layer in layers) == (rematerialize == "blocks")
    assert not any(isinstance(layer, Rematerialized) for layer in classifier._flatten_layers())
    # The schedule counts whole batches: the warm-up's peak comes after 5 steps.
    assert float(classifier.optimizer._learning_rate(5)) == pytest.approx(
        config.train.lr_per_256_images * config.data.batch_size / 256
    )
