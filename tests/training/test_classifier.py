"""Loss, gradients and accuracy of the training step against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def softmax_loss(labels, logits):
    return -(labels * np.log(softmax(logits))).sum(axis=-1).mean()


def sigmoid_loss(labels, logits):
    p = sigmoid(logits)
    return -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()


def sgd():
    return keras.optimizers.SGD(1.0, name="optimizer")


def kernel_and_bias(classifier):
    return [v.numpy().astype(np.float64) for v in classifier.network.trainable_variables]


# --- loss and gradient ---


@pytest.mark.parametrize("smoothing, l2", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.5), (0.2, 0.3)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_step_follows_the_formulas(make_linear, features, multi_label, smoothing, l2):
    images, labels = features
    classifier = make_linear(sgd(), multi_label=multi_label, label_smoothing=smoothing, l2=l2)
    kernel, bias = kernel_and_bias(classifier)
    logs = classifier.train_step((tf.constant(images), tf.constant(labels)))

    logits = images @ kernel + bias
    if multi_label:
        smooth = labels * (1 - smoothing) + smoothing / 2
        loss, slope = sigmoid_loss(smooth, logits), (sigmoid(logits) - smooth) / smooth.size
    else:
        smooth = labels * (1 - smoothing) + smoothing / 3
        loss, slope = softmax_loss(smooth, logits), (softmax(logits) - smooth) / len(smooth)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)  # the shown loss is without the weight decay
    new_kernel, new_bias = kernel_and_bias(classifier)
    np.testing.assert_allclose(new_kernel, kernel - images.T @ slope - l2 * kernel, atol=1e-5)
    np.testing.assert_allclose(new_bias, bias - slope.sum(axis=0), atol=1e-5)  # no decay here


def test_biases_do_not_decay(make_linear, features):
    images, labels = features
    with_l2, without = make_linear(sgd(), l2=10.0), make_linear(sgd())
    for classifier in (with_l2, without):
        classifier.network.trainable_variables[1].assign([5.0, 5.0, 5.0])  # the same for all: softmax does not see it
        classifier.train_step((tf.constant(images), tf.constant(labels)))
    np.testing.assert_allclose(kernel_and_bias(with_l2)[1], kernel_and_bias(without)[1], atol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_evaluation_does_not_smooth(make_linear, features, multi_label):
    images, labels = features
    classifier = make_linear(multi_label=multi_label, label_smoothing=0.5, l2=1.0)
    kernel, bias = kernel_and_bias(classifier)
    logs = classifier.test_step((tf.constant(images), tf.constant(labels)))
    expected = (sigmoid_loss if multi_label else softmax_loss)(labels, images @ kernel + bias)
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-5)


# --- accuracy ---


@pytest.mark.parametrize(
    "labels, top, right",
    [
        ([0.0, 1.0, 0.0], 1, 1),
        ([0.0, 1.0, 0.0], 2, 0),
        ([0.6, 0.4, 0.0], 0, 1),  # mixed: the stronger label counts
        ([0.6, 0.4, 0.0], 1, 0),
        ([1.0, 1.0, 0.0], 0, 1),  # several: one of them
        ([1.0, 1.0, 0.0], 1, 1),
        ([1.0, 1.0, 0.0], 2, 0),
    ],
)
def test_accuracy(make_linear, labels, top, right):
    classifier = make_linear()
    kernel, bias = np.zeros([4, 3]), np.eye(3)[top]
    classifier.network.set_weights([kernel, bias])
    logs = classifier.test_step((tf.zeros([1, 4]), tf.constant([labels])))
    assert float(logs["accuracy"]) == right


def test_a_last_smaller_batch_counts_each_image_once(make_linear, features, feature_batches):
    images, labels = features
    classifier = make_linear()
    kernel, bias = kernel_and_bias(classifier)
    results = classifier.evaluate(feature_batches, verbose=0, return_dict=True)
    logits = images @ kernel + bias
    right = (logits.argmax(axis=-1) == labels.argmax(axis=-1)).sum()
    assert 0 < right < 10
    assert results["accuracy"] == pytest.approx(right / 10, abs=1e-6)
    assert results["loss"] == pytest.approx(softmax_loss(labels, logits), rel=1e-5)
    again = classifier.evaluate(feature_batches, verbose=0, return_dict=True)
    assert again == results  # nothing is left over from the evaluation before


# --- with a real network ---


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_nothing_happens_when_the_data_set_ends(make_linear, feature_batches):
    """Keras runs a step without a batch where the number of batches is unknown; it must change nothing."""

    def adamw():
        return keras.optimizers.AdamW(0.1, weight_decay=0.5, name="optimizer")

    unknown = feature_batches.filter(lambda *_: True)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    fitted, stepped = make_linear(adamw(), ema_decay=0.9), make_linear(adamw(), ema_decay=0.9)
    fitted.fit(unknown, epochs=2, verbose=0, shuffle=False)
    for batch in [*feature_batches, *feature_batches]:
        stepped.train_step(batch)
    assert int(fitted.optimizer.iterations) == 6
    for one, two in zip(fitted.network.weights, stepped.network.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-6)
        one, two = (c.average.averages[v.path] for c, v in ((fitted, one), (stepped, two)))
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def batch():
    images = tf.random.stateless_uniform([16, 16, 16, 3], (1, 2), -1, 1)
    return images, tf.one_hot(tf.range(16) % 10, 10)


def test_training_lowers_the_loss(make_classifier, batch):
    classifier = make_classifier(learning_rate=0.005, label_smoothing=0.1)
    losses = []
    for _ in range(6):
        classifier.reset_metrics()
        losses.append(float(classifier.train_step(batch)["loss"]))
    assert losses[-1] < losses[0] - 0.2
    assert int(classifier.optimizer.iterations) == 6


def test_one_step_moves_everything_and_the_average(make_classifier, batch):
    classifier = make_classifier(ema_decay=0.9)
    before = {v.path: v.numpy() for v in classifier.network.weights}
    classifier.train_step(batch)
    for variable in classifier.network.weights:
        after, average = variable.numpy(), classifier.average.averages[variable.path].numpy()
        assert (after != before[variable.path]).any(), variable.path
        np.testing.assert_allclose(average, 0.1 * before[variable.path] + 0.9 * after, rtol=1e-4, atol=1e-6)


def test_average_follows_the_step_number(make_linear, features):
    images, labels = (tf.constant(x) for x in features)
    classifier = make_linear(ema_decay=0.9999)
    expected = kernel_and_bias(classifier)[0]
    for step in range(4):
        classifier.train_step((images, labels))
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * kernel_and_bias(classifier)[0]
    kernel = classifier.network.trainable_variables[0]
    np.testing.assert_allclose(classifier.average.averages[kernel.path], expected, rtol=1e-5)


def test_evaluation_leaves_everything_alone(make_classifier, batch):
    classifier = make_classifier()
    variables = [*classifier.network.variables, *classifier.optimizer.variables]
    before = [v.numpy() for v in variables] + [v.numpy() for v in classifier.average.averages.values()]
    first = classifier.test_step(batch)["loss"].numpy()
    classifier.reset_metrics()
    assert classifier.test_step(batch)["loss"].numpy() == first  # no dropout, no batch statistics
    after = [v.numpy() for v in variables] + [v.numpy() for v in classifier.average.averages.values()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
