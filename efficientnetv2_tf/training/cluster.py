"""Which workers train together, and whether all of them have come."""

import contextlib
import dataclasses
import json
import os
import socket
import time

from efficientnetv2_tf.training.hparams import ConfigError

_PORT = 8470  # of the workers' gRPC servers, where the cluster does not name it; Slurm's tasks on a node count up
_PAUSE = 0.5  # seconds between two attempts to reach somebody
_ENOUGH_GPUS = 1024  # a node; the resolver gives out no tasks beyond its GPUs, even where it leaves them alone
_GO, _OTHER = b"go\n", b"other configuration\n"


class ClusterError(RuntimeError):
    """The workers of a training did not find each other, or one of them was lost; the message says which."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a training.

    Attributes:
        addresses: host:port of each; the first is the chief, which alone writes files.
        index: of this process among them.
    """

    addresses: tuple[str, ...]
    index: int


def cluster_kind(runtime):
    """What describes the cluster that this process is a part of. Needs no TensorFlow.

    Args:
        runtime: a `RuntimeConfig`.

    Returns:
        "tf_config", "kubernetes" or "slurm"; None where there is no cluster.

    Raises:
        ConfigError: TF_CONFIG is malformed.
    """
    if _tf_config()[0]:
        return "tf_config"
    if runtime.kubernetes_selector:
        return "kubernetes"
    return "slurm" if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else None


def evaluation_runtime(runtime):
    """The `RuntimeConfig` to evaluate with after a training with `runtime`.

    The TPU and the pods that it names are the training's, and likely gone.
    """
    found = {"strategy": "auto", "tpu": None, "kubernetes_selector": None, "kubernetes_workers": None}
    return runtime if runtime.strategy == "one_device" else runtime.model_copy(update=found)


def is_chief_process(runtime):
    """Whether this process may print, as far as the environment tells before TensorFlow is loaded."""
    kind = cluster_kind(runtime)
    if kind == "tf_config":
        return _of_tf_config().index == 0
    return kind != "slurm" or int(os.environ.get("SLURM_PROCID", 0)) == 0


def find_cluster(runtime):
    """The `Cluster` that TF_CONFIG, Kubernetes or Slurm describes, or None; imports TensorFlow, but does not start it.

    Args:
        runtime: a `RuntimeConfig`.

    Raises:
        ConfigError: the description is malformed.
        ClusterError: the pods are not there within `runtime.cluster_timeout`.
    """
    kind = cluster_kind(runtime)
    if kind == "kubernetes":
        return _of_kubernetes(runtime)
    return {"tf_config": _of_tf_config, "slurm": _of_slurm}[kind]() if kind else None


def meet(cluster, timeout, fingerprint=""):
    """Waits until all workers have reached the chief.

    TensorFlow would wait for a worker that does not come without an end, deaf to SIGTERM. So the workers first knock
    at the port where the chief's gRPC server is going to be.

    Args:
        cluster: a `Cluster`.
        timeout: seconds.
        fingerprint: text that has to be the same for all workers, without spaces.

    Raises:
        ClusterError: somebody did not come, or has another fingerprint.
    """
    deadline = time.monotonic() + timeout
    if cluster.index:
        _knock(cluster, deadline, timeout, fingerprint)
    elif len(cluster.addresses) > 1:
        _receive(cluster, deadline, timeout, fingerprint)


def _receive(cluster, deadline, timeout, fingerprint):
    port = int(cluster.addresses[0].rpartition(":")[2])
    arrived, other = {}, set()
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("", port)))
        except OSError as error:
            raise ClusterError(
                f"Port {port} of this machine should be the chief's ({cluster.addresses[0]}): {error}. Choose another, "
                "or end the training that has it."
            ) from error
        expected = set(range(1, len(cluster.addresses)))
        while missing := expected - set(arrived):
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                visitor, _ = server.accept()
            except TimeoutError:
                names = ", ".join(f"worker {index} ({cluster.addresses[index]})" for index in sorted(missing))
                raise ClusterError(
                    f"Not heard of within {timeout:g} s: {names}. Start the same command there, see that it reaches "
                    f"{cluster.addresses[0]}, or wait longer (runtime.cluster_timeout)."
                ) from None
            stack.enter_context(visitor)
            index, theirs = _introduction(visitor)
            if index in expected:
                arrived[index] = visitor
                (other.discard if theirs == fingerprint else other.add)(index)
        for index, visitor in arrived.items():
            with contextlib.suppress(OSError):  # who has gone meanwhile is missed by TensorFlow
                visitor.sendall(_OTHER if index in other else _GO)
    if other:
        raise ClusterError(
            f"Workers {sorted(other)} were started with another configuration than the chief. Give all the same one."
        )


def _introduction(visitor):
    """(index, fingerprint) of a worker; index None if it is somebody else."""
    visitor.settimeout(5)
    try:
        index, _, fingerprint = visitor.makefile(encoding="ascii").readline().strip().partition(" ")
        return int(index), fingerprint
    except (OSError, ValueError):
        return None, ""


def _knock(cluster, deadline, timeout, fingerprint):
    host, _, port = cluster.addresses[0].rpartition(":")
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=min(left, 5)) as chief:
                chief.sendall(f"{cluster.index} {fingerprint}\n".encode())
                chief.settimeout(left)
                answer = chief.makefile("rb").readline()
        except OSError:
            answer = b""
        if answer == _GO:
            return
        if answer == _OTHER:
            raise ClusterError(
                f"The chief ({cluster.addresses[0]}) was started with another configuration than this worker. Give all "
                "the same one."
            )
        time.sleep(_PAUSE)
    raise ClusterError(
        f"Worker {cluster.index} could not go on with the chief, {cluster.addresses[0]}, within {timeout:g} s: it was "
        "not reached, or waits for others in vain. Start the same command there, see that its port can be reached from "
        "here, or wait longer (runtime.cluster_timeout)."
    )


def _tf_config():
    """(jobs, task) of the variable; both empty where it is not set."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        value = json.loads(text or "{}")
        jobs, task = value.get("cluster", {}), value.get("task", {})
        if isinstance(jobs, dict) and isinstance(task, dict) and all(isinstance(x, list) for x in jobs.values()):
            return jobs, task
    except (ValueError, AttributeError):
        pass
    raise ConfigError(
        'TF_CONFIG: expected JSON such as {"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": '
        f'"worker", "index": 0}}}}. Received: {text}'
    )


def _of_tf_config():
    jobs, task = _tf_config()
    if unknown := sorted(set(jobs) - {"chief", "worker"}):
        raise ConfigError(
            f"TF_CONFIG: expected the jobs 'worker' and, if wanted, 'chief'. Also: {', '.join(unknown)}, which "
            "a training with tf.distribute.MultiWorkerMirroredStrategy does not have."
        )
    chiefs = list(jobs.get("chief", []))
    addresses = (*chiefs, *jobs.get("worker", []))
    index = task.get("index")
    index = len(chiefs) + int(index) if task.get("type") == "worker" and index is not None else index
    if task.get("type") not in jobs or index is None or not 0 <= int(index) < len(addresses):
        raise ConfigError(f"TF_CONFIG: expected a 'task' with type and index in the cluster. Received: {task}")
    return Cluster(addresses, int(index))


def _of_slurm():
    import tensorflow as tf

    # Which GPUs a task sees is Slurm's business (srun --gpus-per-task); the resolver would call nvidia-smi.
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=_PORT, gpus_per_node=_ENOUGH_GPUS, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().job_tasks("worker")
    except (RuntimeError, ValueError, KeyError) as error:
        raise ConfigError(f"Slurm's variables describe no cluster: {error}. Start the workers with srun.") from error
    return Cluster(tuple(addresses), resolver.get_task_info()[1])


def _of_kubernetes(runtime):
    import tensorflow as tf

    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ConfigError(
            "runtime.kubernetes_selector needs the Kubernetes client (pip install kubernetes). Without it, set "
            "TF_CONFIG in the manifest, as the README shows."
        ) from error
    if not (node := os.environ.get("NODE_IP")):
        raise ConfigError(
            "runtime.kubernetes_selector: expected the node's address in NODE_IP (fieldRef: status.hostIP), for the "
            "resolver lists pods by their nodes. They need hostNetwork: true, and a node each."
        )
    config.load_incluster_config()
    resolver = tf.distribute.cluster_resolver.KubernetesClusterResolver(
        {"worker": [runtime.kubernetes_selector]}, tf_server_port=_PORT, override_client=client.CoreV1Api()
    )
    addresses = _pods(resolver, runtime)
    hosts = [address.rpartition(":")[0] for address in addresses]
    if node not in hosts:
        raise ConfigError(f"NODE_IP: expected one of the pods' nodes, {', '.join(hosts)}. Received: {node}")
    return Cluster(tuple(addresses), hosts.index(node))


def _pods(resolver, runtime):
    """The addresses, once there are as many as there should be."""
    deadline, found = time.monotonic() + runtime.cluster_timeout, "none"
    while True:
        try:
            addresses = resolver.cluster_spec().as_dict().get("worker", [])
            if len(addresses) == runtime.kubernetes_workers:
                return addresses
            found = ", ".join(addresses) or "none"
        except RuntimeError as error:  # a pod that is not running yet
            found = str(error)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{runtime.kubernetes_selector}: expected {runtime.kubernetes_workers} running pods within "
                f"{runtime.cluster_timeout:g} s. Found: {found}"
            )
        time.sleep(_PAUSE)
