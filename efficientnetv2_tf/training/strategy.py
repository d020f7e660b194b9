"""On which devices a training runs: `tf.distribute`'s strategies, and what our trainer asks of them."""

import contextlib
import functools
import os

import keras
import numpy as np
import tensorflow as tf

from efficientnetv2_tf.training.as_traced import without_graph_optimizer
from efficientnetv2_tf.training.cluster import ClusterError, find_cluster, meet
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.startup import hidden_stderr, use_logical_cpus

_SEED_STEP = 7919  # between the seeds of two replicas; layers' own seeds are random numbers, or count up by one
# What TensorFlow raises in a worker when another one is gone.
_LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError, tf.errors.InternalError,
)  # fmt: skip


def make_strategy(runtime, fingerprint=""):
    """The strategy that a `RuntimeConfig` asks for. For several workers TensorFlow must not have started yet.

    Args:
        runtime: a `RuntimeConfig`. "auto" is multi_worker where TF_CONFIG, Slurm or Kubernetes gives a cluster of more
            than one, tpu where TPU_NAME or the machine has one, mirrored where there are several devices, and else
            one_device.
        fingerprint: of the configuration; workers that start with another are refused.

    Returns:
        A `tf.distribute.Strategy`; TensorFlow's default one for one_device.

    Raises:
        ConfigError: there is no such device or cluster.
        ClusterError: not all workers came within `runtime.cluster_timeout`.
    """
    cluster = find_cluster(runtime) if runtime.strategy in ("auto", "multi_worker") else None
    if runtime.strategy == "multi_worker" and cluster is None:
        raise ConfigError(
            "runtime.strategy=multi_worker: expected a cluster from TF_CONFIG, from Slurm (srun with more than one "
            "task) or from runtime.kubernetes_selector. Received none of them; tools/local_workers.py starts workers "
            "on this machine."
        )
    if cluster and (runtime.strategy == "multi_worker" or len(cluster.addresses) > 1):
        return _multi_worker(cluster, runtime, fingerprint)
    if runtime.strategy == "tpu" or (runtime.strategy == "auto" and _tpu_name(runtime) is not None):
        return _tpu(runtime)
    use_logical_cpus(runtime.logical_cpus)
    devices = _devices()
    if runtime.strategy == "mirrored" or (runtime.strategy == "auto" and len(devices) > 1):
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def _devices():
    """The names of the GPUs, or of the logical CPUs where there is none."""
    with hidden_stderr(), without_graph_optimizer():  # starts TensorFlow, where nothing has before
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _multi_worker(cluster, runtime, fingerprint):
    use_logical_cpus(runtime.logical_cpus)
    meet(cluster, runtime.cluster_timeout, fingerprint)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    with explaining_lost_workers(len(cluster.addresses)), hidden_stderr(), without_graph_optimizer():
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def _tpu_name(runtime):
    """Name or address of the TPU, "local" for one of this machine, or None."""
    name = runtime.tpu or os.environ.get("TPU_NAME")
    return name or ("local" if tf.config.list_physical_devices("TPU") else None)


def _tpu(runtime):
    name = _tpu_name(runtime)
    if name is None:
        # The resolver would ask Google Cloud's metadata server, which is a matter of minutes elsewhere.
        raise ConfigError(
            "runtime.strategy=tpu: expected a TPU of this machine, or the name of one in runtime.tpu or TPU_NAME. "
            "Received none of them. runtime.strategy=auto takes what there is."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    # The resolver asks Google Cloud by several libraries, each with errors of its own.
    except Exception as error:
        raise ConfigError(
            f"runtime.tpu: no TPU {name!r} could be used: {type(error).__name__}: {error}. Check its name, zone and "
            "state (gcloud compute tpus tpu-vm list), or take runtime.strategy=auto with another machine."
        ) from error


def num_workers(strategy):
    """Processes that train together."""
    # The default strategy and the others say it in their own ways.
    is_multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return strategy.cluster_resolver.cluster_spec().num_tasks("worker") if is_multi_worker else 1


def worker_index(strategy):
    """Which of the processes that train together this one is, from 0."""
    return 0 if num_workers(strategy) == 1 else strategy.cluster_resolver.task_id


def is_chief(strategy):
    """Whether this process writes files, prints and draws."""
    return worker_index(strategy) == 0


def input_shard(strategy):
    """(index, number) of this process' input pipeline among those of all workers."""
    return worker_index(strategy), num_workers(strategy)


def describe(strategy, doing="Training"):
    """What the training, or another work, runs on, as a sentence."""
    replicas, workers = strategy.num_replicas_in_sync, num_workers(strategy)
    if replicas == 1:
        return f"{doing} on one device."
    return f"{doing} on {replicas} replicas" + (f" of {workers} workers." if workers > 1 else ".")


def check_batch(config, strategy):
    """Checks what a configuration needs to run on the replicas of a strategy.

    Args:
        config: a `Config`.
        strategy: of `make_strategy`.

    Raises:
        ConfigError: the global batch cannot be shared out evenly, or float16 would have to be scaled across replicas.
    """
    replicas, parts = strategy.num_replicas_in_sync, config.train.accumulate_steps
    batch_size, unit = config.data.batch_size, replicas * parts
    if batch_size % unit:
        lower = batch_size // unit * unit
        near = " or ".join(str(size) for size in (lower, lower + unit) if size)
        what = f"the {replicas} replicas" + (f" times train.accumulate_steps={parts}" if parts > 1 else "")
        raise ConfigError(f"data.batch_size: expected a multiple of {what}, such as {near}. Received: {batch_size}")
    if replicas > 1 and config.runtime.mixed_precision == "mixed_float16":
        raise ConfigError(
            "runtime.mixed_precision: expected mixed_bfloat16, float32 or auto with several replicas, because Keras "
            "looks for an overflow in the first replica's gradients only. Received: mixed_float16"
        )


def replica_normalization(normalization, strategy):
    """The normalisation to train with: "sync_batch" for "batch" where there are several replicas.

    Keras' plain batch normalisation would keep the first replica's statistics, of its part of the batch.
    """
    return "sync_batch" if normalization == "batch" and strategy.num_replicas_in_sync > 1 else normalization


def distribute(strategy, make, steps):
    """Batches for `fit` and `evaluate` under a strategy.

    One worker's replicas get each global batch in equal parts, which `tf.distribute` cuts. Of several workers each
    makes its own part.

    Args:
        strategy: of `make_strategy`.
        make: from (index, number) of the input pipelines to a `tf.data.Dataset` of this one's part of each batch.
        steps: how many batches there are.
    """
    if num_workers(strategy) == 1:
        return make((0, 1)).apply(tf.data.experimental.assert_cardinality(steps))
    local = len(strategy.extended.worker_devices)

    def part(context):
        batches = make((context.input_pipeline_id, context.num_input_pipelines))
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return batches if local == 1 else _cut(batches, local)

    batches = strategy.distribute_datasets_from_function(part)
    if local > 1:
        batches._cardinality = steps  # counted are the replicas' batches; Keras takes it for the number of steps
    return batches


def distribute_epochs(strategy, make, steps):
    """Batches for a `fit` of several epochs, each of which begins as its `StageControls` stand by then.

    On one device a single iterator gives them all, and begins an epoch when its first batch is asked for; a new one
    would make the kernels of the data set's functions anew. Other strategies read ahead, past an epoch's end, so there
    each epoch has an iterator of its own, which Keras makes.

    Args:
        strategy: of `make_strategy`.
        make: as for `distribute`, a data set that is one epoch.
        steps: batches of an epoch; to be given to `fit` as `steps_per_epoch` too.
    """
    batches = distribute(strategy, make, steps)
    # Within a scope that would be the strategy of the scope.
    is_default = strategy is tf.distribute.get_strategy() and not tf.distribute.has_strategy()
    return batches.repeat() if is_default else batches


def _cut(batches, parts):
    """Each batch as `parts` batches."""

    def cut(*batch):
        return tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda x: tf.reshape(x, tf.concat([[parts, -1], tf.shape(x)[1:]], 0)), batch)
        )

    return batches.flat_map(cut)


def spread_seeds(strategy, seeds):
    """Gives each replica random numbers of its own in dropout and stochastic depth.

    Args:
        strategy: of `make_strategy`.
        seeds: the network's seed variables, integers [2], equal in all replicas, as when made or restored. Those of
            the first replica stay as they are, and are the ones that checkpoints keep.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    local = len(strategy.extended.worker_devices)
    worker = worker_index(strategy)
    for seed in seeds:
        for index, copy in enumerate(strategy.experimental_local_results(seed)):
            value = copy.numpy()
            copy.assign(value + np.array([(worker * local + index) * _SEED_STEP, 0], value.dtype))


def barrier(strategy):
    """Waits until all workers have come here."""
    agree(strategy, 0)


def agree(strategy, number):
    """Whether all workers have the same whole number, of less than 2**24; all of them have to ask.

    Args:
        strategy: of `make_strategy`.
        number: this worker's.
    """
    if num_workers(strategy) == 1:
        return True

    count, total, squares = (float(x) for x in _sums_of_powers(strategy)(tf.constant(number, tf.float64)))
    return count * squares == total * total


def any_worker(strategy, told):
    """Whether something is so for one of the workers at least; all of them have to ask.

    Args:
        strategy: of `make_strategy`.
        told: whether it is for this one.
    """
    if num_workers(strategy) == 1:
        return told
    _, total, _ = _sums_of_powers(strategy)(tf.constant(float(told), tf.float64))
    return bool(total > 0)


@functools.lru_cache(maxsize=1)
def _sums_of_powers(strategy):
    """From a number of each replica to the sums of their powers 0, 1 and 2."""

    @tf.function
    def sums(mine):
        powers = strategy.run(lambda x: [tf.ones_like(x), x, x * x], (mine,))
        return [strategy.reduce("SUM", power, axis=None) for power in powers]

    return sums


@contextlib.contextmanager
def chief_first(strategy):
    """The chief does what is in the block, then the others."""
    if not is_chief(strategy):
        barrier(strategy)
    yield
    if is_chief(strategy):
        barrier(strategy)


@contextlib.contextmanager
def explaining_lost_workers(workers):
    """Tells in our words that another worker is gone.

    Args:
        workers: how many there are.

    Raises:
        ClusterError: in place of TensorFlow's errors of that kind.
    """
    try:
        yield
    except _LOST as error:
        if workers == 1:
            raise
        text = (error.message or "").strip().partition("\n")[0][:300]
        raise ClusterError(
            "Another worker of this training ended or can no longer be reached; its own output says why. To go on, "
            f"start the same commands again with the same --model_dir. (TensorFlow: {type(error).__name__}: {text})"
        ) from error


class DistributedModel(keras.Model):
    """A Keras model that `fit` can train on several workers.

    Two parts of Keras 3.15's trainer fail under `MultiWorkerMirroredStrategy`, and are replaced here. The model has to
    be built, and so has its optimizer.
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras makes a batch to learn its shapes, and cannot add up the parts of it that other workers hold.

        All variables are there already, so there is nothing to learn.
        """

    def _make_function(self, step_function):
        """Keras averages the replicas' results along their first axis, which scalars do not have."""
        strategy = self.distribute_strategy
        if num_workers(strategy) == 1:
            return super()._make_function(step_function)

        @tf.autograph.experimental.do_not_convert
        def step(iterator):
            results = strategy.run(step_function, args=(iterator.get_next(),))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in results.items()}

        return tf.function(step, reduce_retracing=True)
