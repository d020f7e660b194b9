"""Notes a worker's sizes, last weights and what it learns of the others, in the folder that SPY_FOLDER names."""

import json
import os


def install(trainer):
    import numpy as np
    import tensorflow as tf

    from efficientnetv2_tf.training.classifier import Classifier
    from efficientnetv2_tf.training.strategy import any_worker

    sizes, traces, step, evaluate = [], [], Classifier._train_step, trainer._evaluate

    def noting_step(self, images, labels):
        traces.append(images.shape[0])
        size = tf.py_function(lambda side: (sizes.append(int(side)), side)[1], [tf.shape(images)[1]], tf.int32)
        with tf.control_dependencies([size]):
            return step(self, tf.identity(images), labels)

    def saving_evaluate(classifier, task, strategy, *arguments):
        index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        weights = {v.path.replace("/", ":"): v.numpy() for v in classifier.network.weights}
        averages = {f"average:{k}".replace("/", ":"): v.numpy() for k, v in classifier.average.averages.items()}
        np.savez(
            os.path.join(os.environ["SPY_FOLDER"], f"worker-{index}.npz"),
            sizes=sizes,
            traces=traces,
            told=[any_worker(strategy, index == 1), any_worker(strategy, False)],
            **weights,
            **averages,
        )
        return evaluate(classifier, task, strategy, *arguments)

    Classifier._train_step, trainer._evaluate = noting_step, saving_evaluate
