"""From a configuration to what is trained: network, moving average and optimizer."""

from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.precision import dtype_policy
from efficientnetv2_tf.training.accumulation import GradientAccumulation
from efficientnetv2_tf.training.classifier import Classifier
from efficientnetv2_tf.training.ema import MovingAverage
from efficientnetv2_tf.training.optimizers import make_optimizer
from efficientnetv2_tf.training.precision import choose_precision
from efficientnetv2_tf.training.schedule import make_schedule
from efficientnetv2_tf.training.strategy import replica_normalization


def build_classifier(config, strategy, steps_per_epoch, epochs):
    """Network, moving average and optimizer, with all their variables made before anything is traced.

    Args:
        config: a resolved `Config` whose model.num_classes is known.
        strategy: of `make_strategy`; the call has to be within its scope.
        steps_per_epoch: training steps of an epoch, for the learning rate's schedule.
        epochs: of the training, for the same.

    Returns:
        A compiled `Classifier`.
    """
    model, train_config = config.model, config.train
    precision = choose_precision(config.runtime.mixed_precision)
    with dtype_policy(precision):
        network = get_model(
            model.name,
            num_classes=model.num_classes,
            blocks=model.blocks,
            width_coefficient=model.width_coefficient,
            depth_coefficient=model.depth_coefficient,
            feature_size=model.feature_size,
            dropout_rate=model.dropout_rate,
            drop_connect_rate=model.drop_connect_rate,
            activation=model.activation,
            normalization=replica_normalization(model.normalization, strategy),
            classifier_initializer=model.classifier_initializer,
            preprocessing=config.data.preprocessing,
            weights=train_config.init_weights,
        )
    variables, parts = network.trainable_variables, train_config.accumulate_steps
    classifier = Classifier(
        network,
        multi_label=config.data.multi_label,
        label_smoothing=train_config.label_smoothing,
        l2=0.0 if train_config.optimizer == "adamw" else train_config.weight_decay,
        average=MovingAverage(network.weights, train_config.ema_decay) if train_config.ema_decay else None,
        accumulation=GradientAccumulation(variables, parts) if parts > 1 else None,
        rematerialize=train_config.rematerialize == "blocks",
    )
    schedule = make_schedule(train_config, config.data.batch_size, steps_per_epoch, epochs)
    optimizer = make_optimizer(train_config, schedule, variables, loss_scaling=precision == "mixed_float16")
    # XLA on CPUs made the step 4 times slower, and would compile each image size anew elsewhere.
    classifier.compile(optimizer=optimizer, jit_compile=False, auto_scale_loss=False)
    return classifier
