"""The server over HTTP: limits and load. The process as a user starts it is tested with the command line."""

import base64
import concurrent.futures
import gzip
import http.client
import io
import json
import pathlib
import shutil
import socket
import urllib.parse

import pytest
import requests
from PIL import Image
from rich.console import Console

from efficientnetv2_tf.deploy.serving import server
from efficientnetv2_tf.deploy.serving.store import ModelStore
from efficientnetv2_tf.training.hparams import ConfigError

ROOT = pathlib.Path(__file__).parents[3]


def encoded(content):
    return {"b64": base64.b64encode(content).decode()}


@pytest.fixture(scope="module")
def huge_png():
    """20,000 x 20,000 pixels in 50 kB."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def check_it_still_answers(ask, encoded_picture):
    yield
    status, answer = ask("tiny", {"instances": [encoded(encoded_picture())]})
    assert status == 200
    assert len(answer["predictions"]) == 1


@pytest.mark.usefixtures("check_it_still_answers")
class TestBadRequests:
    """Each is refused with a reason, and the server goes on."""

    def test_a_body_of_50_mb(self, ask):
        status, answer = ask("tiny", b'{"instances": ["' + b"a" * 50_000_000 + b'"]}')
        assert status == 413
        assert f"{server.MAX_BODY_BYTES:,} bytes" in answer["error"]

    def test_a_body_of_50_mb_whose_length_is_not_told(self, address):
        chunks = (b"a" * 2**20 for _ in range(50))
        answer = requests.post(f"{address}/v1/models/tiny:predict", data=chunks, timeout=60)
        assert answer.status_code == 413

    def test_a_body_of_50_mb_that_is_announced_is_not_awaited(self, address):
        url = urllib.parse.urlsplit(address)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        connection.putrequest("POST", "/v1/models/tiny:predict")
        connection.putheader("Content-Length", "50000000")
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert "error" in json.loads(answer.read())
        connection.close()

    def test_a_body_that_unpacks_to_50_mb(self, ask):
        status, answer = ask("tiny", gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})
        assert status == 413
        assert "limit" in answer["error"]

    def test_a_picture_of_20_000_by_20_000(self, ask, huge_png):
        status, answer = ask("tiny", {"instances": [encoded(huge_png)]})
        assert status == 400
        assert "89,478,485 pixels" in answer["error"]

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_jpeg_that_is_cut(self, ask, encoded_picture, share):
        jpeg = encoded_picture("JPEG", size=(200, 160))
        status, answer = ask("tiny", {"instances": [encoded(jpeg[: int(share * len(jpeg))])]})
        assert status == 400
        assert "JPEG" in answer["error"]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b'{"instances": [', "not JSON"),
            (b"\x89PNG\r\n\x1a\n", "not JSON"),
            (b"[" * 1_000_000, "nested too deeply"),
            (b'{"instances": [{"b64": "a$b="}]}', "not base64"),
            (json.dumps({"instances": [encoded(b"Dear reader,\n" * 100)]}).encode(), "Unknown image file format"),
            (json.dumps({"instances": [encoded(b"")]}).encode(), "Input is empty"),
        ],
    )
    def test_what_is_no_request(self, ask, body, reason):
        status, answer = ask("tiny", body)
        assert status == 400
        assert reason in answer["error"]

    def test_what_is_not_gzip(self, ask):
        status, answer = ask("tiny", b"{}", headers={"Content-Encoding": "gzip"})
        assert status == 400
        assert "not gzip" in answer["error"]

    def test_a_body_where_none_is_read(self, address):
        assert requests.post(f"{address}/nothing", data=b"a" * 50_000_000, timeout=60).status_code == 404

    def test_what_is_not_http(self, address):
        url = urllib.parse.urlsplit(address)
        with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")

    def test_a_client_that_leaves(self, address, ask, caplog):
        url = urllib.parse.urlsplit(address)
        with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
            connection.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert ask("echo", {"signature_name": "scalar", "inputs": [1]}) == (200, {"outputs": 1})
        assert not caplog.records


def test_a_packed_body_is_unpacked(ask):
    body = gzip.compress(json.dumps({"signature_name": "scalar", "inputs": [1, 2]}).encode())
    assert ask("echo", body, headers={"Content-Encoding": "gzip"}) == (200, {"outputs": 3})


@pytest.mark.parametrize("path", ["/healthz", "/v1", "/favicon.ico", "/v2/models/tiny", "//v1/models/tiny"])
def test_other_paths_are_not_found(address, path):
    assert requests.get(address + path, timeout=60).status_code == 404
    assert requests.post(address, timeout=60).status_code == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_malformed(address, method):
    assert requests.request(method, f"{address}/v1/models/tiny", timeout=60).status_code == 400


def test_a_bug_of_ours_is_told_and_survived(store, running, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    with running(store) as address:
        with monkeypatch.context() as patch:
            patch.setattr(server, "answer", fail)
            answer = requests.get(f"{address}/v1/models/tiny", timeout=60)
            assert (answer.status_code, answer.json()) == (500, {"error": "ZeroDivisionError: a bug"})
        assert requests.get(f"{address}/v1/models/tiny", timeout=60).status_code == 200


def test_200_requests_at_once_of_1_to_32_pictures(store, running, encoded_picture):
    pictures = [encoded_picture("JPEG", (8 * number, 255 - 8 * number, 99)) for number in range(32)]
    rows = [{"image_bytes": encoded(picture)} for picture in pictures]

    def post(number):
        batch = rows[: 1 + number % 32]
        answer = requests.post(f"{address}/v1/models/pictures:predict", json={"instances": batch}, timeout=120)
        return len(batch), answer.status_code, answer.json()["predictions"]

    with running(store) as address:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = [*pool.map(post, range(200))]
        metrics = requests.get(f"{address}/monitoring/prometheus/metrics", timeout=60)
    _, _, expected = answers[31]
    for count, status, predictions in answers:
        assert status == 200
        assert predictions == [
            {**row, "probabilities": pytest.approx(row["probabilities"]), "scores": pytest.approx(row["scores"])}
            for row in expected[:count]
        ]
    assert ':tensorflow:serving:request_count{model_name="pictures",status="OK"} 200' in metrics.text
    assert metrics.headers["Content-Type"].startswith("text/plain")


def test_a_new_version_is_picked_up_while_serving(models_dir, running, tmp_path):
    shutil.copytree(models_dir / "echo", tmp_path / "echo")
    store = ModelStore(tmp_path)
    store.refresh()
    with running(store) as address, store.polling(0.01):
        url = f"{address}/v1/models/echo"
        assert requests.get(f"{url}/metadata", timeout=60).json()["model_spec"]["version"] == "1"
        shutil.copytree(tmp_path / "echo" / "1", tmp_path / "echo" / "new")
        (tmp_path / "echo" / "new").rename(tmp_path / "echo" / "2")
        body = {"signature_name": "scalar", "inputs": [1, 2]}
        while requests.get(f"{url}/metadata", timeout=60).json()["model_spec"]["version"] == "1":
            assert requests.post(f"{url}:predict", json=body, timeout=60).json() == {"outputs": 3}
        assert requests.post(f"{url}/versions/2:predict", json=body, timeout=60).json() == {"outputs": 3}


class TestServe:
    """What is checked before anything is loaded."""

    @pytest.fixture
    def error(self):
        def of(base, **options):
            with pytest.raises(ConfigError) as caught:
                server.serve(base, console=Console(file=io.StringIO()), **options)
            return str(caught.value)

        return of

    def test_no_folder(self, error, tmp_path):
        assert "is not a folder" in error(tmp_path / "nothing")

    def test_no_model(self, error, tmp_path):
        (tmp_path / "echo" / "latest").mkdir(parents=True)
        assert "Expected NAME/VERSION/saved_model.pb. Export one:" in error(tmp_path)

    def test_the_folder_of_a_model_itself(self, error, models_dir):
        assert "It is itself a model: give the folder above it." in error(models_dir / "echo")

    def test_no_model_that_loads(self, error, tmp_path):
        (tmp_path / "echo" / "1").mkdir(parents=True)
        (tmp_path / "echo" / "1" / "saved_model.pb").write_bytes(b"\xff" * 10)
        assert "None of the models" in error(tmp_path, port=0)

    def test_a_port_that_is_taken(self, error, models_dir):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            message = error(models_dir, port=port)
        assert f"port {port}: Address already in use. If another program has the port" in message

    @pytest.mark.parametrize("options", [{"port": -1}, {"port": 65536}, {"host": "no.such.host.invalid"}])
    def test_an_address_that_is_none(self, error, models_dir, options):
        assert str(next(iter(options.values()))) in error(models_dir, **options)
