"""Keras optimizers whose update is one TensorFlow operation a variable.

Keras 3 composes an update from about twenty operations a variable, which for a network of 450 variables is half
of the training graph, and most of the time to the first step. TensorFlow has the same updates as single kernels.
Variables, arguments and results are Keras', so checkpoints and learning rate schedules work unchanged.
"""

import keras
import tensorflow as tf


def _handle(variable):
    variable = getattr(variable, "value", variable) if isinstance(variable, keras.Variable) else variable
    return variable.handle


class _FewOperations:
    """What the optimizers share: learning rate and constants are computed once a step, and not once a variable.

    Gradients are clipped after they were added up; Keras clips each replica's share before.
    """

    _rate = None  # in the step that is being traced

    def apply(self, grads, trainable_variables=None):
        self._constants, self._rate = {}, tf.convert_to_tensor(self.learning_rate)
        try:
            self._begin_step()
            super().apply(grads, trainable_variables)
        finally:
            self._rate = None

    def _begin_step(self):
        """Computes what is the same for all variables."""

    def _get_current_learning_rate(self):
        return super()._get_current_learning_rate() if self._rate is None else self._rate

    def _constant(self, value, variable):
        """A Python number as a tensor of the variable's type."""
        key = value, variable.dtype
        if key not in self._constants:
            self._constants[key] = tf.constant(value, variable.dtype)
        return self._constants[key]

    def _clip_gradients(self, grads):
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars):
        grads, variables = zip(*super()._all_reduce_sum_gradients(grads_and_vars), strict=True)
        return list(zip(super()._clip_gradients(list(grads)), variables, strict=True))


class RMSprop(_FewOperations, keras.optimizers.RMSprop):
    """`keras.optimizers.RMSprop` with momentum, as one operation a variable.

    Source: Tieleman & Hinton, lecture 6.5, 2012; epsilon stands inside of the square root, as in the official
    release.
    """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if not self.momentum or self.centered:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyRMSProp(
            var=_handle(variable),
            ms=_handle(self._velocities[index]),
            mom=_handle(self._momentums[index]),
            lr=tf.cast(learning_rate, variable.dtype),
            rho=self._constant(self.rho, variable),
            momentum=self._constant(self.momentum, variable),
            epsilon=self._constant(self.epsilon, variable),
            grad=gradient,
        )


class AdamW(_FewOperations, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, its Adam part as one operation a variable (Loshchilov & Hutter, ICLR 2019)."""

    def _begin_step(self):
        step = tf.cast(self.iterations + 1, tf.float32)
        self._beta_powers = tf.pow(float(self.beta_1), step), tf.pow(float(self.beta_2), step)
        self._decay = None if self.weight_decay is None else self._rate * self.weight_decay

    def _apply_weight_decay(self, variables):
        """Nothing: `update_step` does it."""

    def update_step(self, gradient, variable, learning_rate):
        if self._decay is not None and self._use_weight_decay(variable):
            variable.assign_sub(variable * tf.cast(self._decay, variable.dtype))
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.cast(self._beta_powers[0], variable.dtype),
            beta2_power=tf.cast(self._beta_powers[1], variable.dtype),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self._constant(self.beta_1, variable),
            beta2=self._constant(self.beta_2, variable),
            epsilon=self._constant(self.epsilon, variable),
            grad=gradient,
        )


class SGD(_FewOperations, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with momentum, as one operation a variable."""

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=self._constant(self.momentum, variable),
            use_nesterov=self.nesterov,
        )


def is_kernel(variable):
    """Whether weight decay acts on a variable: convolution and dense kernels, by the last part of their path.

    Biases and the scale and offset of batch normalisation are left out, as in the official release, whose
    pattern on `variable.name` would match nothing in Keras 3.
    """
    return variable.path.rsplit("/", 1)[-1] in ("kernel", "depthwise_kernel")


def make_optimizer(config, learning_rate, variables, *, loss_scaling=False):
    """The optimizer that a `TrainConfig` asks for, with its variables made.

    Making them before the training step is traced saves a second trace.

    Args:
        config: a `TrainConfig`. Its weight decay is decoupled for "adamw"; for the others it is a part of the
            loss, which is the training step's business.
        learning_rate: number or Keras schedule.
        variables: the trainable variables.
        loss_scaling: whether to scale the loss dynamically, which float16 needs.
    """
    common = {"global_clipnorm": config.gradient_clip or None, "name": "optimizer"}
    if config.optimizer == "rmsprop":
        optimizer = RMSprop(
            learning_rate, rho=config.rho, momentum=config.momentum, epsilon=config.epsilon or 1e-3, **common
        )
    elif config.optimizer == "adamw":
        optimizer = AdamW(
            learning_rate,
            weight_decay=config.weight_decay,
            beta_1=config.beta_1,
            beta_2=config.beta_2,
            epsilon=config.epsilon or 1e-8,
            **common,
        )
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not is_kernel(v)])
    else:
        optimizer = SGD(learning_rate, momentum=config.momentum, **common)
    if loss_scaling:
        # Keras' own name would be numbered, and a restart might not find it again.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale")
    optimizer.build(variables)
    return optimizer
