"""Which strategy is taken, and what is refused; TPUs by a resolver that is not real."""

import pytest
import tensorflow as tf

from efficientnetv2_tf.training import strategy as strategies
from efficientnetv2_tf.training.cluster import ClusterError
from efficientnetv2_tf.training.hparams import Config, ConfigError, RuntimeConfig
from efficientnetv2_tf.training.strategy import (
    agree,
    check_batch,
    describe,
    distribute,
    explaining_lost_workers,
    is_chief,
    make_strategy,
    num_workers,
    replica_normalization,
    spread_seeds,
)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("TF_CONFIG", "TPU_NAME", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


class TwoReplicas:
    num_replicas_in_sync = 2


@pytest.mark.parametrize("name", ["auto", "one_device"])
def test_one_device_is_tensorflow_s_default(name):
    strategy = make_strategy(RuntimeConfig(strategy=name))
    assert strategy is tf.distribute.get_strategy()
    assert (num_workers(strategy), is_chief(strategy), agree(strategy, 7)) == (1, True, True)
    assert describe(strategy) == "Training on one device."


def test_mirrored_takes_all_devices():
    strategy = make_strategy(RuntimeConfig(strategy="mirrored"))
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == len(tf.config.list_logical_devices("CPU"))
    assert is_chief(strategy)


def test_multi_worker_without_a_cluster_is_refused():
    with pytest.raises(ConfigError, match=r"expected a cluster from TF_CONFIG.*tools/local_workers.py"):
        make_strategy(RuntimeConfig(strategy="multi_worker"))


def test_a_cluster_of_one_is_no_reason_for_multi_worker(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}')
    assert make_strategy(RuntimeConfig()) is tf.distribute.get_strategy()


def test_tpu_without_one_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"expected a TPU of this machine, or the name of one in runtime.tpu"):
        make_strategy(RuntimeConfig(strategy="tpu"))


@pytest.fixture
def tpu(monkeypatch):
    """What was done with a TPU's resolver."""
    done = []

    class Resolver:
        def __init__(self, name):
            done.append(f"resolve {name}")
            if name == "unknown":
                raise ValueError("TPU unknown was not found in zone us-central1-b")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda _: done.append("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda _: done.append("initialize"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda _: done.append("strategy") or TwoReplicas())
    return done


@pytest.mark.parametrize("name", ["tpu", "auto"])
def test_a_named_tpu_is_connected_to(tpu, monkeypatch, name):
    monkeypatch.setenv("TPU_NAME", "of-the-environment")
    assert isinstance(make_strategy(RuntimeConfig(strategy=name, tpu="mine")), TwoReplicas)
    assert tpu == ["resolve mine", "connect", "initialize", "strategy"]
    make_strategy(RuntimeConfig(strategy=name))
    assert tpu[4] == "resolve of-the-environment"


def test_a_tpu_of_this_machine_needs_no_connection(tpu, monkeypatch):
    monkeypatch.setattr(strategies.tf.config, "list_physical_devices", lambda kind=None: ["tpu"])
    make_strategy(RuntimeConfig(strategy="tpu"))
    assert tpu == ["resolve local", "initialize", "strategy"]


def test_an_unknown_tpu_is_a_plain_error(tpu):
    with pytest.raises(ConfigError, match=r"runtime.tpu: no TPU 'unknown' could be used: ValueError: TPU unknown was"):
        make_strategy(RuntimeConfig(strategy="tpu", tpu="unknown"))


def config(**sections):
    return Config.model_validate(sections)


def test_the_global_batch_has_to_be_shared_out_evenly():
    with pytest.raises(ConfigError, match=r"expected a multiple of the 2 replicas, such as 64 or 66. Received: 65"):
        check_batch(config(data={"batch_size": 65}), TwoReplicas())
    with pytest.raises(ConfigError, match=r"such as 2. Received: 1"):
        check_batch(config(data={"batch_size": 1}), TwoReplicas())
    check_batch(config(data={"batch_size": 64}), TwoReplicas())


def test_each_replica_s_share_has_equal_parts():
    sections = {"data": {"batch_size": 12}, "train": {"accumulate_steps": 4}}
    message = r"multiple of the 2 replicas times train.accumulate_steps=4, such as 8 or 16. Received: 12"
    with pytest.raises(ConfigError, match=message):
        check_batch(config(**sections), TwoReplicas())
    check_batch(config(**sections), tf.distribute.get_strategy())


def test_float16_is_refused_on_several_replicas():
    sections = {"data": {"batch_size": 64}, "runtime": {"mixed_precision": "mixed_float16"}}
    with pytest.raises(ConfigError, match="mixed_bfloat16"):
        check_batch(config(**sections), TwoReplicas())
    check_batch(config(**sections), tf.distribute.get_strategy())


def test_batch_normalisation_is_synchronised_on_several_replicas():
    assert replica_normalization("batch", TwoReplicas()) == "sync_batch"
    assert replica_normalization("group", TwoReplicas()) == "group"
    assert replica_normalization("batch", tf.distribute.get_strategy()) == "batch"


def test_one_pipeline_makes_whole_batches():
    batches = distribute(tf.distribute.get_strategy(), lambda shard: tf.data.Dataset.range(6).batch(2), 3)
    assert int(batches.cardinality()) == 3
    assert [batch.numpy().tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5]]


def test_a_worker_s_batch_is_cut_for_its_replicas():
    batches = tf.data.Dataset.from_tensor_slices((tf.range(8), tf.zeros([8, 3]))).batch(4, drop_remainder=True)
    parts = [(a.numpy().tolist(), b.shape.as_list()) for a, b in strategies._cut(batches, 2)]
    assert parts == [([0, 1], [2, 3]), ([2, 3], [2, 3]), ([4, 5], [2, 3]), ([6, 7], [2, 3])]


def test_replicas_draw_their_own_random_numbers(run_python):
    code = """
from efficientnetv2_tf.training.startup import load_tensorflow
load_tensorflow(logical_cpus=2)
import tensorflow as tf
from efficientnetv2_tf.training.hparams import RuntimeConfig
from efficientnetv2_tf.training.strategy import make_strategy, spread_seeds
strategy = make_strategy(RuntimeConfig(logical_cpus=2))
with strategy.scope():
    seed = tf.Variable([5, 3], dtype=tf.int64, trainable=False)
spread_seeds(strategy, [seed])
print([v.numpy().tolist() for v in strategy.experimental_local_results(seed)], strategy.num_replicas_in_sync)
"""
    assert run_python(code) == "[[5, 3], [7924, 3]] 2\n"
    seed = tf.Variable([5, 3])
    spread_seeds(tf.distribute.get_strategy(), [seed])
    assert seed.numpy().tolist() == [5, 3]


def test_a_lost_worker_is_told_in_our_words():
    error = tf.errors.UnavailableError(None, None, "Socket closed")
    lost = pytest.raises(ClusterError, match=r"Another worker of this training ended.*UnavailableError")
    with lost, explaining_lost_workers(2):
        raise error
    with pytest.raises(tf.errors.UnavailableError), explaining_lost_workers(1):
        raise error


def test_logical_cpus_come_too_late_once_tensorflow_runs():
    tf.config.list_logical_devices()
    with pytest.raises(ConfigError, match=r"runtime.logical_cpus: .* Received: 5"):
        make_strategy(RuntimeConfig(logical_cpus=5))
