"""Files to run TF Serving with: Docker Compose, and the server's own configuration.

They lie in OUTPUT/serving and serve every model folder of OUTPUT, which the container sees as /models. What they say
was read in TF Serving's documentation and source; no server was at hand to try them.
"""

import pathlib

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.hparams import ConfigError

FOLDER = "serving"
IMAGE = "tensorflow/serving:2.20.0"
_FLAGS = (
    f"--model_config_file=/models/{FOLDER}/models.config",
    f"--monitoring_config_file=/models/{FOLDER}/monitoring.config",
    "--enable_batching=true",
    f"--batching_parameters_file=/models/{FOLDER}/batching.config",
)
# The image has neither curl nor wget, but bash can open a connection.
_HEALTH = (
    "exec 3<>/dev/tcp/127.0.0.1/8501 && "
    'printf "GET /v1/models/{name} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n" >&3 && '
    "grep -q AVAILABLE <&3"
)
_MONITORING = """\
# Metrics for Prometheus at http://HOST:8501/monitoring/prometheus/metrics
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
_BATCHING = """\
# Requests that arrive within batch_timeout_micros run together, up to max_batch_size pictures. A request of more is
# refused. Threads are as many as the machine has. There is no list of allowed sizes, because CPUs need none: batches
# would be filled up with pictures that are computed for nothing.
# Requests to the signature `images` should have pictures of one size then, as others do not fit into one batch.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
"""
_COMPOSE = """\
# In the folder above this one:
#   docker compose -f {folder}/docker-compose.yaml up -d
# or, without Compose:
#   {docker_run}
services:
  tfs:
    image: {image}
    command:
{flags}
    ports: ["8500:8500", "8501:8501"]  # gRPC, REST
    volumes:
      - {{type: bind, source: .., target: /models, read_only: true}}
    restart: unless-stopped
    healthcheck:
      test:
        - CMD
        - bash
        - -c
        - >-
          {health}
      interval: 10s
      timeout: 5s
      start_period: 60s
"""


def docker_run(name, output="$PWD"):
    """The command that serves an export without Compose, in one line, with health check and metrics.

    Args:
        name: of the model that the health check asks for.
        output: the export's folder; Docker wants an absolute path.
    """
    mount = f'type=bind,source="{output}",target=/models,readonly'
    check = _HEALTH.format(name=name).replace('"', r"\"")  # it goes through two shells
    health = f"--health-cmd \"bash -c '{check}'\" --health-interval 10s --health-start-period 60s"
    ports = "-p 8500:8500 -p 8501:8501"
    return f"docker run -d --name tfs {ports} --mount {mount} {health} {IMAGE} {' '.join(_FLAGS)}"


def write_serving_files(output, name):
    """Writes OUTPUT/serving: docker-compose.yaml, models.config, batching.config and monitoring.config.

    Args:
        output: folder of the models' folders; those with a version in them are served.
        name: of the model that the health check asks for.
    """
    folder = pathlib.Path(output, FOLDER)
    files = {
        "docker-compose.yaml": _compose(name),
        "models.config": _models_config(served_models(output)),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }
    for file, text in files.items():
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _compose(name):
    flags = "\n".join(f"      - {flag}" for flag in _FLAGS)
    health = _HEALTH.format(name=name)
    return _COMPOSE.format(folder=FOLDER, docker_run=docker_run(name), image=IMAGE, flags=flags, health=health)


def served_models(output):
    """Names of the folders that hold a version, sorted; hidden ones left out."""
    folders = (path for path in pathlib.Path(output).glob("[!.]*") if path.is_dir())
    return sorted(path.name for path in folders if versions_in(path))


def versions_in(folder):
    """{number: path} of the SavedModels in a model's folder."""
    paths = (path.parent for path in pathlib.Path(folder).glob("*/saved_model.pb"))
    return {int(path.name): path for path in paths if path.name.isascii() and path.name.isdigit()}


def check_base(base):
    """Raises a `ConfigError` where a folder is not there, or holds no NAME/VERSION/saved_model.pb."""
    base = pathlib.Path(base)
    if not base.is_dir():
        raise ConfigError(f"{base} is not a folder. It should hold NAME/VERSION/saved_model.pb (--mode=export).")
    if not served_models(base):
        hint = "It is itself a model: give the folder above it." if versions_in(base) else "Export one: --mode=export."
        raise ConfigError(f"There is no model in {base}. Expected NAME/VERSION/saved_model.pb. {hint}")


def _models_config(names):
    configs = "".join(
        f'  config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}\n' for name in names
    )
    comment = "# The newest version of each model is served, and a new one as soon as it is there."
    return f"{comment}\nmodel_config_list {{\n{configs}}}\n"
