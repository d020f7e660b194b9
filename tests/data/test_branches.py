"""One of several functions runs, and no other."""

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.branches import one_of

SCALAR = tf.TensorSpec([], tf.float32)


@pytest.mark.parametrize("graph", [False, True])
def test_runs_the_one(graph):
    choose = one_of([lambda value, factor=factor: value * factor for factor in (1.0, 10.0, 100.0)])

    def run(index, value):
        return choose(index, [value], SCALAR)

    if graph:
        run = tf.function(run, input_signature=[tf.TensorSpec([], tf.int32), SCALAR])
    assert [float(run(tf.constant(index), tf.constant(2.0))) for index in (2, 0, 1, 2)] == [200, 2, 20, 200]


def test_only_the_one_can_fail():
    choose = one_of([lambda value: value, lambda value: tf.debugging.check_numerics(value / 0.0, "infinite")])
    dataset = tf.data.Dataset.from_tensor_slices([0, 1]).map(lambda index: choose(index, [tf.constant(1.0)], SCALAR))
    results = iter(dataset)
    assert float(next(results)) == 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="infinite"):
        next(results)


def test_twice_in_one_graph():
    choose = one_of([lambda value: value + 1, lambda value: value * 3])

    @tf.function
    def run(indices, value):
        for index in tf.unstack(indices):
            value = choose(index, [value], SCALAR)
        return value

    assert float(run(tf.constant([0, 1]), tf.constant(2.0))) == 9
    assert float(run(tf.constant([1, 0]), tf.constant(2.0))) == 7


def test_a_function_that_reads_other_tensors_is_refused():
    other = tf.Variable(1.0)
    with pytest.raises(ValueError, match="as one of their inputs"):
        tf.function(lambda: one_of([lambda value: value + other])(tf.constant(0), [tf.constant(1.0)], SCALAR))()
