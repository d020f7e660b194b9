"""Training steps run without the graph optimizer, and nothing else does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.training.as_traced import as_traced
from efficientnetv2_tf.training.classifier import Classifier


def is_off():
    return tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)


def test_only_while_it_runs():
    assert as_traced(lambda *args: (is_off(), *args))(1, 2) == (True, 1, 2)
    assert not is_off()


def test_also_where_it_fails():
    def fail():
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        as_traced(fail)()
    assert not is_off()


def test_what_was_off_stays_off():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        as_traced(lambda: None)()
        assert is_off()
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def test_the_training_step_does():
    network = keras.Sequential([keras.layers.Input([4]), keras.layers.Dense(3)])
    classifier, seen = Classifier(network), []
    classifier.compile(keras.optimizers.SGD(0.1), auto_scale_loss=False)
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(is_off()))
    whole, classifier._train_step = classifier._train_step, lambda *batch: (seen.append(is_off()), whole(*batch))[1]
    classifier.fit(
        np.ones([4, 4], np.float32), np.eye(4, 3, dtype=np.float32), batch_size=2, verbose=0, callbacks=[watch]
    )
    assert seen == [True, False, False]  # traced once, and off again after each of two steps
    function = classifier.train_function
    classifier.make_train_function()
    assert classifier.train_function is function
