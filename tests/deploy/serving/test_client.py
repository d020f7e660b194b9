"""The client, against the stand-in and against servers that misbehave."""

import contextlib
import http.server
import json
import pathlib
import socket
import threading

import pytest

from efficientnetv2_tf.deploy.client import Prediction, ServingError, predict


@pytest.fixture
def files(tmp_path, encoded_picture):
    """Writes pictures of one colour each, and gives their paths."""

    def write(*colours):
        paths = [tmp_path / f"{number}.png" for number in range(len(colours))]
        for path, colour in zip(paths, colours, strict=True):
            path.write_bytes(encoded_picture("PNG", colour))
        return paths

    return write


@pytest.fixture
def url(address):
    return f"{address}/v1/models/pictures"


@pytest.fixture
def answering():
    """A server that gives prepared answers (status, JSON or bytes), the last one for ever; and what it was asked."""

    @contextlib.contextmanager
    def run(*answers):
        waiting, asked = [*answers], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append((self.command, self.path, json.loads(body) if body else None))
                status, answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/models/m", asked
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return run


def metadata(inputs=("image_bytes",), outputs=("classes", "scores")):
    signature = {"inputs": {name: {} for name in inputs}, "outputs": {name: {} for name in outputs}}
    return 200, {"metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}}


def row(name="cat"):
    return {"classes": [name, "dog"], "scores": [0.75, 0.25]}


@pytest.mark.parametrize("suffix", ["", ":predict", "/versions/1", "/versions/1:predict", "/"])
def test_names_what_pictures_show(files, url, suffix):
    paths = files((0, 255, 0), (255, 0, 0))
    found = predict(map(str, paths), url + suffix)
    assert [prediction.path for prediction in found] == paths
    assert [prediction.classes[0] for prediction in found] == ["grün", "rot"]
    for prediction in found:
        assert prediction.problem == ""
        assert len(prediction.classes) == len(prediction.scores) == 5
        assert sorted(prediction.scores, reverse=True) == [*prediction.scores]
        assert 0.9 < prediction.scores[0] < 1


def test_many_pictures_keep_their_order(files, url):
    steps = []
    found = predict(files(*[(255, 0, 0), (0, 0, 255)] * 20), url, progress=steps.append)
    assert [prediction.classes[0] for prediction in found] == ["rot", "blau"] * 20
    assert steps == [16, 16, 8]


def test_bad_files_do_not_cost_the_good_ones(files, url, tmp_path):
    good = files((0, 0, 255))
    (tmp_path / "letter.txt").write_text("Dear reader")
    paths = [tmp_path / "missing.png", *good, tmp_path / "letter.txt", tmp_path]
    missing, blue, letter, folder = predict(paths, url)
    assert "No such file" in missing.problem
    assert blue.classes[0] == "blau"
    assert "Unknown image file format" in letter.problem
    assert "(status 400)" in letter.problem
    assert "directory" in folder.problem
    assert not letter.classes


def test_no_files_are_no_predictions(url):
    assert predict([], url) == []


def test_a_row_without_classes_is_a_bad_picture(files, answering):
    empty = {"classes": ["", ""], "scores": [0, 0]}
    paths = files(0, 1)
    with answering(metadata(), (200, {"predictions": [empty, row()]})) as (url, _):
        bad, good = predict(paths, url)
    assert bad.problem == "It cannot be decoded."
    assert good == Prediction(paths[1], ("cat", "dog"), (0.75, 0.25))


def test_names_from_a_real_server_stay_as_they_are(files, answering):
    for name in ("Fuß", "ねこ", "naïve", "cat"):
        with answering(metadata(), (200, {"predictions": [row(name)]})) as (url, _):
            assert predict(files(0), url)[0].classes[0] == name


def test_large_files_are_asked_in_several_requests(tmp_path, answering):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"x" * 7 * 2**20)
    with answering(metadata(), (200, {"predictions": [row()]})) as (url, asked):
        predict(paths, url)
    assert [len(body["instances"]) for _, path, body in asked if path.endswith(":predict")] == [1, 1, 1]


def test_a_busy_server_is_asked_again(files, answering):
    answers = [(503, {}), metadata(), (429, {}), (200, {"predictions": [row()]})]
    with answering(*answers) as (url, asked):
        assert predict(files(0), url)[0].classes == ("cat", "dog")
    assert [command for command, _, _ in asked] == ["GET", "GET", "POST", "POST"]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(404, {"error": "no such model"})], r"no such model \(status 404\)"),
        ([(500, b"<html>")], r"no reason given \(status 500\)"),
        ([(200, b"<html>hello")], "does not answer like TF Serving"),
        ([(200, [])], "does not answer like TF Serving"),
        ([metadata(outputs=["logits"])], "from image_bytes to classes and scores"),
        ([metadata(inputs=["image_bytes", "k"])], "from image_bytes to classes and scores"),
        ([metadata(), (500, {"error": "it broke"})], r"it broke \(status 500\)"),
        ([(503, {"error": "busy"})], r"busy \(status 503\)"),
    ],
)
def test_errors_of_the_server_are_shown(files, answering, answers, message):
    with answering(*answers) as (url, _), pytest.raises(ServingError, match=message):
        predict(files(0), url, retries=1)


def test_nobody_there_is_explained(files):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/models/m"
    with pytest.raises(ServingError, match=f"No answer from {url}.*refused.*--mode=serve"):
        predict(files(0), url, retries=0)


def test_silence_is_explained(files):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/models/m"
        with pytest.raises(ServingError, match=r"No answer from .*timed out"):
            predict(files(0), url, timeout=0.1, retries=0)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8501", "http://127.0.0.1:8501", "http://x/v1/models/", "http://x/v1/models/m:classify"]
)
def test_an_address_of_no_model_is_refused(url):
    with pytest.raises(ServingError, match="http://HOST:PORT/v1/models/NAME"):
        predict(["a.png"], url)


def test_the_client_needs_no_tensorflow(run_python):
    code = "import sys, efficientnetv2_tf.deploy.client; print({'tensorflow', 'keras'} & {*sys.modules})"
    assert run_python(code).strip() == "set()"


def test_paths_may_be_of_any_kind(files, url):
    (path,) = files((255, 0, 0))
    for paths in ([str(path)], str(path), path):
        (prediction,) = predict(paths, url)
        assert prediction.path == pathlib.Path(path)
