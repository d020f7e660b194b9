"""One of several computations, chosen while a graph runs."""

import tensorflow as tf


def one_of(functions):
    """Makes a function that runs one of `functions`, and no other.

    TensorFlow takes `tf.cond` and `tf.switch_case` apart: the nodes of all branches become nodes of the whole graph,
    and the executor passes by each of those that are not run. With many nodes in them, as in RandAugment's 16
    operations, this takes as long as the branch that is run. Here they stay functions.

    Args:
        functions: of the inputs, from tensors to one tensor.

    Returns:
        A function of (index: int32 scalar, 0 to len(functions) - 1; inputs: list of tensors; output: `tf.TensorSpec` of
        what each of `functions` gives), which gives that tensor. In a graph it raises a ValueError where one of
        `functions` reads a tensor or a variable that is not among its inputs.
    """
    traced = [tf.function(function, autograph=False) for function in functions]

    @tf.autograph.experimental.do_not_convert
    def run(index, inputs, output):
        if tf.executing_eagerly():
            return functions[int(index)](*inputs)
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in map(tf.convert_to_tensor, inputs)]
        branches = [function.get_concrete_function(*specs) for function in traced]
        if any(branch.captured_inputs for branch in branches):
            raise ValueError("The functions should get each tensor and variable that they read as one of their inputs.")
        (result,) = tf.raw_ops.Case(
            branch_index=index,
            input=inputs,
            Tout=[output.dtype],
            branches=branches,
            output_shapes=[output.shape],
        )
        return result

    return run
