"""What TF Serving is run with. The server itself is tried where there is one."""

import http.server
import shlex
import subprocess
import threading

import pytest
import yaml
from google.protobuf import text_format

from efficientnetv2_tf.deploy.serving_files import docker_run, served_models, versions_in, write_serving_files


@pytest.fixture
def output(tmp_path):
    for path in ("b/1", "a/2", "a/10", "a/x", ".hidden/1", "empty"):
        (tmp_path / path).mkdir(parents=True)
        if path != "empty":
            (tmp_path / path / "saved_model.pb").touch()
    write_serving_files(tmp_path, "a")
    return tmp_path


def test_models_and_versions_are_found(output):
    assert served_models(output) == ["a", "b"]
    assert versions_in(output / "a") == {2: output / "a" / "2", 10: output / "a" / "10"}


def test_compose(output):
    (service,) = yaml.safe_load((output / "serving" / "docker-compose.yaml").read_text())["services"].values()
    assert service["image"].startswith("tensorflow/serving:")
    assert service["ports"] == ["8500:8500", "8501:8501"]
    (volume,) = service["volumes"]
    assert (output / "serving" / volume["source"]).resolve() == output.resolve()
    assert volume["read_only"]
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    for key in ("model_config_file", "monitoring_config_file", "batching_parameters_file"):
        assert (output / flags[key].removeprefix(volume["target"] + "/")).is_file()
    assert shlex.split(docker_run("a", "/x y"))[-4:] == service["command"]
    assert "type=bind,source=/x y,target=/models,readonly" in shlex.split(docker_run("a", "/x y"))


def test_models_config(output):
    text = (output / "serving" / "models.config").read_text()
    for name in ("a", "b"):
        assert f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}' in text
    assert text.count("config {") == 2


def test_the_files_are_what_the_server_parses(output):
    api = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = (output / "serving" / "models.config").read_text()
    config = text_format.Parse(text, api.ModelServerConfig())
    assert [model.name for model in config.model_config_list.config] == ["a", "b"]


def compose_check(output):
    """The command of Compose's health check."""
    (service,) = yaml.safe_load((output / "serving" / "docker-compose.yaml").read_text())["services"].values()
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    return command


def docker_check(output):
    """The command of `docker run`'s health check, which Docker gives to a shell."""
    flags = shlex.split(docker_run("a", output))
    return ["sh", "-c", flags[flags.index("--health-cmd") + 1]]


@pytest.mark.parametrize("check", [compose_check, docker_check])
@pytest.mark.parametrize(("state", "code"), [("AVAILABLE", 0), ("LOADING", 1)])
def test_the_health_check_needs_bash_alone(output, check, state, code):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{"model_version_status": [{{"version": "1", "state": "{state}"}}]}}\n'.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [part.replace("/8501", f"/{server.server_port}") for part in check(output)]
        assert subprocess.run(command, timeout=20, check=False).returncode == code
        server.shutdown()
    assert asked == ["/v1/models/a"]
