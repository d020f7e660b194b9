"""Clusters from the environment, and workers that meet over real sockets."""

import json
import socket
import sys
import threading
import time
import types

import pytest

from efficientnetv2_tf.training import cluster
from efficientnetv2_tf.training.cluster import (
    Cluster,
    ClusterError,
    cluster_kind,
    evaluation_runtime,
    find_cluster,
    is_chief_process,
    meet,
)
from efficientnetv2_tf.training.hparams import ConfigError, RuntimeConfig

SLURM = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[08-09]"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("TF_CONFIG", "NODE_IP", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def set_tf_config(monkeypatch, jobs, **task):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": task}))


def addresses(number):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return (f"127.0.0.1:{port}", *(f"127.0.0.1:{port + index}" for index in range(1, number)))


def meet_all(workers, timeout, fingerprints):
    """What `meet` raised in each worker, or None."""
    results = {}

    def run(index):
        try:
            results[index] = meet(Cluster(workers, index), timeout, fingerprints[index])
        except ClusterError as error:
            results[index] = str(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in fingerprints]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_evaluation_does_not_need_the_training_s_machines():
    trained = {"kubernetes_selector": "job-name=train", "kubernetes_workers": 2, "tpu": "gone", "logical_cpus": 2}
    runtime = evaluation_runtime(RuntimeConfig(strategy="multi_worker", **trained))
    assert runtime == RuntimeConfig(strategy="auto", logical_cpus=2)
    assert evaluation_runtime(RuntimeConfig(strategy="one_device")) == RuntimeConfig(strategy="one_device")


def test_no_cluster():
    assert cluster_kind(RuntimeConfig()) is None
    assert find_cluster(RuntimeConfig()) is None
    assert is_chief_process(RuntimeConfig())


@pytest.mark.parametrize("task, index", [(("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)])
def test_tf_config_with_a_chief(monkeypatch, task, index):
    set_tf_config(monkeypatch, {"worker": ["b:1", "c:1"], "chief": ["a:1"]}, type=task[0], index=task[1])
    assert find_cluster(RuntimeConfig()) == Cluster(("a:1", "b:1", "c:1"), index)
    assert is_chief_process(RuntimeConfig()) == (index == 0)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{not json", "TF_CONFIG: expected JSON such as"),
        ('{"cluster": {"worker": "a:1"}}', "TF_CONFIG: expected JSON such as"),
        ('["a:1"]', "TF_CONFIG: expected JSON such as"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}', "Also: ps"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "expected a 'task'"),
        ('{"cluster": {"worker": ["a:1"]}}', "expected a 'task'"),
    ],
)
def test_malformed_tf_config_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=message):
        find_cluster(RuntimeConfig())


def test_slurm(monkeypatch):
    for name, value in {**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}.items():
        monkeypatch.setenv(name, value)
    assert find_cluster(RuntimeConfig()) == Cluster(("n08:8470", "n08:8471", "n09:8470", "n09:8471"), 2)
    assert not is_chief_process(RuntimeConfig())


def test_a_single_slurm_task_is_no_cluster(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert find_cluster(RuntimeConfig()) is None


def fake_kubernetes(monkeypatch, *answers):
    """A Kubernetes client that lists other pods each time it is asked: {name: (node, phase)}."""
    answers = list(answers)

    def list_pods(self, label_selector):
        pods = answers.pop(0) if len(answers) > 1 else answers[0]
        assert label_selector == "job-name=train"
        return types.SimpleNamespace(
            items=[
                types.SimpleNamespace(
                    metadata=types.SimpleNamespace(name=name),
                    status=types.SimpleNamespace(host_ip=node, phase=phase),
                )
                for name, (node, phase) in pods.items()
            ]
        )

    module = types.ModuleType("kubernetes")
    module.config = types.SimpleNamespace(load_incluster_config=lambda: None)
    module.client = types.SimpleNamespace(CoreV1Api=type("Api", (), {"list_pod_for_all_namespaces": list_pods}))
    monkeypatch.setitem(sys.modules, "kubernetes", module)
    monkeypatch.setattr(cluster, "_PAUSE", 0.01)


def test_kubernetes_waits_for_all_pods(monkeypatch):
    one = {"train-b": ("10.0.0.2", "Running")}
    pending = {**one, "train-a": ("10.0.0.9", "Pending")}
    fake_kubernetes(monkeypatch, one, pending, {**one, "train-a": ("10.0.0.9", "Running")})
    monkeypatch.setenv("NODE_IP", "10.0.0.2")
    runtime = RuntimeConfig(kubernetes_selector="job-name=train", kubernetes_workers=2, cluster_timeout=5.0)
    assert find_cluster(runtime) == Cluster(("10.0.0.9:8470", "10.0.0.2:8470"), 1)


def test_missing_pods_are_told(monkeypatch):
    fake_kubernetes(monkeypatch, {"train-a": ("10.0.0.2", "Running")})
    runtime = RuntimeConfig(kubernetes_selector="job-name=train", kubernetes_workers=2, cluster_timeout=0.1)
    with pytest.raises(ConfigError, match="NODE_IP"):
        find_cluster(runtime)
    monkeypatch.setenv("NODE_IP", "10.0.0.2")
    with pytest.raises(ClusterError, match=r"expected 2 running pods within 0.1 s. Found: 10.0.0.2:8470"):
        find_cluster(runtime)


def test_workers_meet(monkeypatch):
    monkeypatch.setattr(cluster, "_PAUSE", 0.05)
    assert meet_all(addresses(3), 20, {0: "same", 1: "same", 2: "same"}) == {0: None, 1: None, 2: None}


def test_another_configuration_is_refused_everywhere(monkeypatch):
    monkeypatch.setattr(cluster, "_PAUSE", 0.05)
    results = meet_all(addresses(3), 20, {0: "same", 1: "other", 2: "same"})
    assert "Workers [1] were started with another configuration" in results[0]
    assert "another configuration than this worker" in results[1]


def test_who_does_not_come_is_named():
    workers = addresses(3)
    began = time.monotonic()
    results = meet_all(workers, 2, {0: "x", 1: "x"})
    assert f"Not heard of within 2 s: worker 2 ({workers[2]})." in results[0]
    assert f"Worker 1 could not go on with the chief, {workers[0]}" in results[1]
    assert time.monotonic() - began < 30


def test_strangers_at_the_port_do_not_count(monkeypatch):
    monkeypatch.setattr(cluster, "_PAUSE", 0.05)
    workers = addresses(2)

    def stranger():
        host, port = workers[0].split(":")
        for _ in range(100):
            try:
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    return
            except OSError:
                time.sleep(0.05)

    thread = threading.Thread(target=stranger)
    chief = threading.Thread(target=lambda: meet(Cluster(workers, 0), 20, "x"))
    for each in (chief, thread):
        each.start()
    thread.join()
    assert chief.is_alive()
    meet(Cluster(workers, 1), 20, "x")
    chief.join()


def test_an_occupied_port_is_told():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match=f"Port {port} of this machine should be the chief's"):
            meet(Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0), 5)
