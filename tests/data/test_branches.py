"""One of several functions runs, and no other."""

import pytest
import tensorflow as tf

from efficientnetv2_tf.data.branches import one_of

SCALAR = tf.TensorSpec([], tf.float32)


@pytest.mark.parametrize("graph", [False, True])
def test_runs_the_one(graph):
    runs = [tf.Variable(0), tf.Variable(0), tf.Variable(0)]

    def counting(number):
        def function(value):
            runs[number].assign_add(1)
            return value * 10.0**number

        return function

    choose = one_of([counting(number) for number in range(3)])

    def run(index, value):
        return choose(index, [value], SCALAR)

    if graph:
        run = tf.function(run, input_signature=[tf.TensorSpec([], tf.int32), SCALAR])
    assert [float(run(tf.constant(index), tf.constant(2.0))) for index in (2, 0, 2)] == [200, 2, 200]
    assert [int(count) for count in runs] == [1, 0, 2]


def test_errors_of_the_one_arrive():
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
