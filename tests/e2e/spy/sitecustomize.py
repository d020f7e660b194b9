"""Imported by each worker of `test_multi_worker.py`: notes the sizes of its steps, and its last weights.

Python imports a module of this name at its start, from PYTHONPATH; the training itself is the product's, untouched.
"""

import importlib.abc
import importlib.util
import json
import os
import sys

NAME = "efficientnetv2_tf.training.trainer"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), _watch(module))
        return spec


def _watch(trainer):
    import numpy as np
    import tensorflow as tf

    from efficientnetv2_tf.training.classifier import Classifier

    sizes, traces, step, finish = [], [], Classifier._train_step, trainer._finish

    def noting_step(self, images, labels):
        traces.append(images.shape[0])
        size = tf.py_function(lambda side: (sizes.append(int(side)), side)[1], [tf.shape(images)[1]], tf.int32)
        with tf.control_dependencies([size]):
            return step(self, tf.identity(images), labels)

    def saving_finish(classifier, *arguments):
        index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        weights = {v.path.replace("/", ":"): v.numpy() for v in classifier.network.weights}
        averages = {f"average:{k}".replace("/", ":"): v.numpy() for k, v in classifier.average.averages.items()}
        np.savez(
            os.path.join(os.environ["SPY_FOLDER"], f"worker-{index}.npz"),
            sizes=sizes,
            traces=traces,
            **weights,
            **averages,
        )
        return finish(classifier, *arguments)

    Classifier._train_step, trainer._finish = noting_step, saving_finish


if "TF_CONFIG" in os.environ:
    sys.meta_path.insert(0, _Finder())
