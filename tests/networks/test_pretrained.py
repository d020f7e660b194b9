"""Pretrained weights by name, from a real server on this machine: fetched once, checked, converted, kept."""

import base64
import hashlib
import http.server
import io
import os
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import threading
import time
import warnings

import keras
import numpy as np
import pytest

from efficientnetv2_tf.networks import pretrained, pretrained_files
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.networks.preprocessing import STYLES
from efficientnetv2_tf.networks.pretrained import PRETRAINED, Pretrained, Source, find
from efficientnetv2_tf.networks.pretrained_files import fetch
from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.networks.weights import WeightsError, load_weights, save_official_checkpoint

CLASSES = 5
ARCHIVE, KERAS_FILE = "testing.tgz", "testing.h5"  # as the two sources of "imagenet" are called

WITHOUT_TENSORFLOW = {"KERAS_BACKEND": "numpy"}  # which takes most of a process' time to load


def network(seed=1, **arguments):
    """The smallest network, with a value of its own in every place of every variable."""
    model = get_model("testing", **{"num_classes": CLASSES, **arguments})
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def archived(model, folder):
    """A checkpoint in an archive, as the release publishes it."""
    prefix = save_official_checkpoint(model, folder / "model")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(prefix.parent, "testing")
    return packed.getvalue()


@pytest.fixture(scope="module")
def source():
    return network()


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    """{name: bytes} of the two files with the weights of `source`."""
    folder = tmp_path_factory.mktemp("published")
    source.save_weights(folder / "testing.weights.h5")
    archive = archived(source, folder / "checkpoint")
    return {ARCHIVE: archive, KERAS_FILE: (folder / "testing.weights.h5").read_bytes()}


def md5(data):
    return hashlib.md5(data).digest()


def goog_hash(data):
    return f"md5={base64.b64encode(md5(data)).decode()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends `server.files[name]`, with what `server.answers[name]` says otherwise."""

    def do_GET(self):
        name = self.path.removeprefix("/")
        self.server.requests.append(name)
        answer = self.server.answers.get(name, {})
        time.sleep(answer.get("silence", 0))
        if self.server.barrier:
            self.server.barrier.wait()
        body = answer.get("body", self.server.files.get(name))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in [("Content-Length", len(body)), *answer.get("headers", [])]:
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body[: answer.get("sent")])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(files, monkeypatch):
    """Serves the files, notes the requests; its weights are "imagenet" of "testing"."""
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http_server.files, http_server.answers, http_server.requests, http_server.barrier = dict(files), {}, [], None
    http_server.url = f"http://127.0.0.1:{http_server.server_port}/"
    threading.Thread(target=http_server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    yield http_server
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models" / "efficientnetv2_tf"


def publish(monkeypatch, *sources):
    known = Pretrained("testing", "imagenet", CLASSES, "finetune", sources)
    monkeypatch.setitem(PRETRAINED, ("testing", "imagenet"), known)
    return known


@pytest.fixture
def known(server, cache, monkeypatch):
    """One source, the archive; no hash is known beforehand."""
    return publish(monkeypatch, Source(server.url + ARCHIVE))


def assert_holds(path, source):
    model = network(seed=2)
    load_weights(model, path)
    for x, y in zip(model.weights, source.weights, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=x.path)


def refused(known, match):
    """`fetch` says why it failed, and nothing is left behind but what was put there."""
    folder = known.kept.parent
    before = sorted(folder.iterdir()) if folder.exists() else []
    with pytest.raises(WeightsError, match=match) as caught:
        fetch(known)
    assert sorted(folder.iterdir()) == before
    return str(caught.value)


class TestTable:
    @pytest.mark.parametrize("variant, weights", PRETRAINED)
    def test_rows(self, variant, weights):
        known = PRETRAINED[variant, weights]
        assert (known.variant, known.weights) == (variant, weights) and weights in pretrained.NAMES and known.sources
        assert known.classes == (21843 if weights == "imagenet21k" else 1000)
        assert known.preprocessing in STYLES
        assert weights != "imagenet" or known.preprocessing == VARIANTS[variant].preprocessing
        for source in known.sources:
            assert source.address.startswith("https://storage.googleapis.com/")
            assert source.file_name.endswith((".tgz", ".tar.gz", ".h5"))
            assert source.md5 is None or len(bytes.fromhex(source.md5)) == 16

    def test_what_there_is(self):
        for variant in VARIANTS:
            expected = [*pretrained.NAMES] if "v2" in variant else ["imagenet"]
            if variant == "efficientnetv2-xl":
                expected.remove("imagenet")
            if variant in ("efficientnet-b3", "efficientnet-l2", "testing"):
                expected = []
            assert [weights for name, weights in PRETRAINED if name == variant] == expected, variant

    def test_a_file_name_is_of_one_network(self):
        """What was put by hand is known by its name alone."""
        names = [source.file_name for known in PRETRAINED.values() for source in known.sources]
        assert len(names) == len({*names})

    def test_hashes_are_those_of_keras(self):
        v1 = pytest.importorskip("keras.src.applications.efficientnet")
        v2 = pytest.importorskip("keras.src.applications.efficientnet_v2")
        expected = {
            **{f"{v1.BASE_WEIGHTS_PATH}efficientnet{size}.h5": md5s[0] for size, md5s in v1.WEIGHTS_HASHES.items()},
            **{
                f"{v2.BASE_WEIGHTS_PATH}efficientnetv2-{size.removeprefix('-')}.h5": md5s[0]
                for size, md5s in v2.WEIGHTS_HASHES.items()
            },
        }
        stated = {s.address: s.md5 for known in PRETRAINED.values() for s in known.sources if s.md5}
        assert len(stated) == 14
        assert stated.items() <= expected.items()
        assert {*expected} - {*stated} == {f"{v1.BASE_WEIGHTS_PATH}efficientnetb3.h5"}


class TestFind:
    def test_names(self):
        assert find("efficientnetv2-s", "imagenet21k") is PRETRAINED["efficientnetv2-s", "imagenet21k"]

    @pytest.mark.parametrize("weights", [None, "weights.h5", "./imagenet", b"imagenet"])
    def test_what_is_no_name(self, weights, testing_model):
        assert find("efficientnetv2-s", weights) is None
        assert find("efficientnetv2-s", testing_model) is None

    @pytest.mark.parametrize(
        "variant, weights, there",
        [
            ("efficientnetv2-xl", "imagenet", "imagenet21k, imagenet21k-ft1k"),
            ("efficientnet-b0", "imagenet21k", "imagenet"),
            ("efficientnet-b3", "imagenet", "none"),
            ("testing", "imagenet", "none"),
        ],
    )
    def test_what_there_is_not(self, variant, weights, there):
        with pytest.raises(WeightsError, match=rf"no weights '{weights}' of {variant}\. .*by name: {there}\. load_"):
            find(variant, weights)


class TestCacheFolder:
    def test_keras_home(self, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", "~/elsewhere")
        monkeypatch.setenv("HOME", "/home/me")
        assert str(pretrained.cache_folder()) == "/home/me/elsewhere/models/efficientnetv2_tf"
        monkeypatch.delenv("KERAS_HOME")
        assert str(pretrained.cache_folder()) == "/home/me/.keras/models/efficientnetv2_tf"

    def test_cannot_be_made(self, known, cache, server):
        cache.parents[1].write_text("a file in the way")
        with pytest.raises(WeightsError, match=r"cannot be kept in .*efficientnetv2_tf: .*KERAS_HOME"):
            fetch(known)
        assert server.requests == []


class TestFetch:
    def test_once(self, known, cache, server, source, monkeypatch):
        path = fetch(known)
        assert path == cache / "testing-imagenet.weights.h5"
        assert [*cache.iterdir()] == [path]  # the download is gone
        assert_holds(path, source)
        before = path.stat().st_mtime_ns
        monkeypatch.setattr(pretrained_files, "_download", None)
        assert fetch(known) == path
        assert path.stat().st_mtime_ns == before
        assert server.requests == [ARCHIVE]

    def test_another_process_needs_neither_server_nor_tensorflow(self, known, server, run_python):
        path = fetch(known)
        server.files.clear()
        code = f"""
import sys
from efficientnetv2_tf.networks.pretrained import Pretrained, Source
from efficientnetv2_tf.networks.pretrained_files import fetch
print(fetch({known!r}), "tensorflow" in sys.modules)
"""
        assert run_python(code, **WITHOUT_TENSORFLOW).split() == [str(path), "False"]
        assert server.requests == [ARCHIVE]

    def test_says_what_it_does(self, known, server, capsys):
        size = len(server.files[ARCHIVE])
        path = fetch(known)
        told = capsys.readouterr().out.splitlines()
        assert told[0] == f"Downloading {server.url}{ARCHIVE} ({size / 1e6:.1f} MB)"
        assert told[1].startswith("1/1 - ")
        assert told[-1] == f"Kept as {path}"
        assert fetch(known) == path and capsys.readouterr().out == ""

    def test_a_bar_on_a_terminal(self, known, server, capsys, monkeypatch):
        monkeypatch.setattr(pretrained_files, "_MEGABYTE", 1000)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        fetch(known)
        size, told = -(-len(server.files[ARCHIVE]) // 1000), capsys.readouterr().out
        assert f"{size}/{size}" in told and "━━━━━━━━━━━━━━━━━━━━" in told

    def test_is_silent_where_keras_is(self, known, capsys, caplog):
        keras.config.disable_interactive_logging()
        try:
            with caplog.at_level("INFO", logger=pretrained_files.__name__):
                fetch(known)
        finally:
            keras.config.enable_interactive_logging()
        assert capsys.readouterr().out == ""
        assert [record.message.split()[0] for record in caplog.records if record.name == pretrained_files.__name__] == [
            "Downloading",
            "Kept",
        ]

    @pytest.mark.slow
    def test_processes_at_once(self, server, cache, monkeypatch, files, source):
        """Both download at the same time, and each keeps a whole file."""
        server.barrier = threading.Barrier(2, timeout=60)
        known = publish(monkeypatch, Source(server.url + KERAS_FILE, md5(files[KERAS_FILE]).hex()))
        code = (
            "from efficientnetv2_tf.networks.pretrained import *\n"
            "from efficientnetv2_tf.networks.pretrained_files import fetch\n"
            f"print(fetch({known!r}))"
        )
        command, environment = [sys.executable, "-c", code], {**os.environ, **WITHOUT_TENSORFLOW}
        processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [process.communicate()[0].splitlines() for process in processes]
        assert [lines[-1] for lines in told] == [str(known.kept)] * 2
        assert server.requests == [KERAS_FILE] * 2
        assert [*cache.iterdir()] == [known.kept]
        assert_holds(known.kept, source)

    def test_values_are_kept_in_full_and_nothing_is_drawn(self, known, source):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("bfloat16")
        random.seed(3)
        try:
            path = fetch(known)
            assert keras.config.dtype_policy().name == "bfloat16"
        finally:
            keras.config.set_dtype_policy(before)
        assert random.random() == random.Random(3).random()
        assert_holds(path, source)


class TestHashOfTheServer:
    @pytest.mark.parametrize("form", ["two headers", "one header", "none", "without MD5", "unpacked on the way"])
    def test_right(self, known, server, source, form):
        body = server.files[ARCHIVE]
        headers = {
            "two headers": [("x-goog-hash", "crc32c=n03x6A=="), ("x-goog-hash", goog_hash(body))],
            "one header": [("X-Goog-Hash", f"crc32c=n03x6A==,{goog_hash(body)}")],
            "none": [],
            "without MD5": [("x-goog-hash", "crc32c=n03x6A==")],
            "unpacked on the way": [
                ("x-goog-hash", goog_hash(b"packed")),
                ("x-goog-stored-content-encoding", "gzip"),
            ],
        }[form]
        server.answers[ARCHIVE] = {"headers": headers}
        assert_holds(fetch(known), source)

    @pytest.mark.parametrize("crc", ["", "crc32c=n03x6A==,"])
    def test_wrong(self, known, server, crc):
        server.answers[ARCHIVE] = {"headers": [("x-goog-hash", f"{crc}{goog_hash(b'another file')}")]}
        found, stated = (goog_hash(data).removeprefix("md5=") for data in (server.files[ARCHIVE], b"another file"))
        refused(known, re.escape(f"{ARCHIVE}: its MD5 is {found}, the server states {stated}\n"))


class TestFailures:
    def test_says_what_was_tried_and_what_to_do(self, server, cache, monkeypatch):
        known = publish(monkeypatch, Source(server.url + "gone.tgz"), Source("http://127.0.0.1:9/closed.h5", "0" * 32))
        text = refused(known, "'imagenet' of testing could not be had")
        assert f"\n  {server.url}gone.tgz: HTTP 404 Not Found\n" in text
        assert re.search(r"\n  http://127\.0\.0\.1:9/closed\.h5: .*Connection refused\n", text)
        assert f"put it here, and make the same call again:\n  {cache / 'gone.tgz'}\n  {cache / 'closed.h5'}\n" in text
        assert "load_weights(model, path)" in text
        assert server.requests == ["gone.tgz"]

    def test_broken_off(self, known, server):
        size = len(server.files[ARCHIVE])
        server.answers[ARCHIVE] = {"sent": 1000}
        refused(known, rf"{ARCHIVE}: (broken off after 1,000 of {size:,} bytes|IncompleteRead)")
        server.answers.clear()
        fetch(known)
        assert server.requests == [ARCHIVE] * 2

    def test_a_silent_server(self, known, server, monkeypatch):
        monkeypatch.setattr(pretrained_files, "_TIMEOUT", 0.1)
        server.answers[ARCHIVE] = {"silence": 0.5}
        refused(known, rf"{ARCHIVE}: timed out")
        assert server.requests == [ARCHIVE]

    def test_a_page_in_place_of_the_file(self, known, server):
        server.answers[ARCHIVE] = {"body": b"<html>Log in first</html>" * 100}
        text = refused(known, rf"{ARCHIVE}: {ARCHIVE} cannot be read as a TensorFlow checkpoint")
        assert "/." not in text  # no folder that is gone

    def test_damaged_values(self, known, server, source, tmp_path):
        """Without any hash, TensorFlow's checksums tell."""
        archived(source, tmp_path)
        data = tmp_path / "model.data-00000-of-00001"
        damaged = bytearray(data.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        data.write_bytes(damaged)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(tmp_path, "testing", filter=lambda info: None if "keras" in info.name else info)
        server.files[ARCHIVE] = packed.getvalue()
        refused(known, f"{ARCHIVE}: {ARCHIVE} is damaged: .* cannot be read")

    @pytest.mark.parametrize(
        "arguments, reason",
        [
            ({"num_classes": 7}, r"it has no classifier for 5 classes"),
            ({"include_top": False}, r"it has no classifier for 5 classes"),
            ({"blocks": ["r1_k3_s2_e4_i16_o24_se0.25"]}, r"does not hold the weights of testing"),
        ],
        ids=["classes", "top", "blocks"],
    )
    def test_another_network(self, known, server, arguments, reason, tmp_path):
        server.files[ARCHIVE] = archived(network(**arguments), tmp_path / "checkpoint")
        refused(known, f"{ARCHIVE}: .*{reason}")

    def test_another_variant(self, known, server, tmp_path):
        other = network()
        other.variant = "efficientnetv2-s"
        server.files[ARCHIVE] = archived(other, tmp_path / "checkpoint")
        refused(known, f"{ARCHIVE}: .*another variant, 'efficientnetv2-s'")

    def test_an_interruption_leaves_nothing(self, known, cache, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(pretrained_files, "load_weights", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(known)
        assert [*cache.iterdir()] == []


class TestSecondSource:
    @pytest.fixture
    def known(self, server, cache, monkeypatch, files):
        return publish(
            monkeypatch,
            Source(server.url + ARCHIVE),
            Source(server.url + KERAS_FILE, md5(files[KERAS_FILE]).hex()),
        )

    def test_not_asked_where_the_first_serves(self, known, server):
        fetch(known)
        assert server.requests == [ARCHIVE]

    @pytest.mark.parametrize("answer", [{"body": b"no archive"}, {"sent": 100}, None], ids=["page", "cut", "404"])
    def test_helps_out(self, known, server, source, answer):
        if answer is None:
            del server.files[ARCHIVE]
        else:
            server.answers[ARCHIVE] = answer
        assert_holds(fetch(known), source)
        assert server.requests == [ARCHIVE, KERAS_FILE]

    def test_stated_hash_is_wrong(self, known, server, tmp_path):
        del server.files[ARCHIVE]
        network(seed=9).save_weights(tmp_path / "other.weights.h5")
        server.files[KERAS_FILE] = other = (tmp_path / "other.weights.h5").read_bytes()
        found, expected = md5(other).hex(), known.sources[1].md5
        assert found != expected
        refused(known, rf"{KERAS_FILE}: its MD5 is {found}, expected {expected}")


class TestPutByHand:
    @pytest.fixture
    def known(self, cache, monkeypatch, files):
        """Without a network."""
        cache.mkdir(parents=True)
        return publish(
            monkeypatch,
            Source(f"http://127.0.0.1:9/{ARCHIVE}"),
            Source(f"http://127.0.0.1:9/{KERAS_FILE}", md5(files[KERAS_FILE]).hex()),
        )

    @pytest.mark.parametrize("name", [ARCHIVE, KERAS_FILE])
    def test_is_taken_and_left_there(self, known, cache, files, source, name):
        (cache / name).write_bytes(files[name])
        path = fetch(known)
        assert_holds(path, source)
        assert {*cache.iterdir()} == {path, cache / name}
        assert (cache / name).read_bytes() == files[name]

    def test_damaged(self, known, cache, files, source):
        for name in (ARCHIVE, KERAS_FILE):
            (cache / name).write_bytes(files[name][:-100])
        text = refused(known, "could not be had")
        assert f"\n  {cache / ARCHIVE}: {cache / ARCHIVE} " in text
        assert f"\n  {cache / KERAS_FILE}: its MD5 is " in text
        (cache / KERAS_FILE).write_bytes(files[KERAS_FILE])
        assert_holds(fetch(known), source)

    def test_damaged_and_a_server(self, server, cache, monkeypatch, source):
        known = publish(monkeypatch, Source(server.url + ARCHIVE))
        cache.mkdir(parents=True)
        (cache / ARCHIVE).write_bytes(b"cut")
        assert_holds(fetch(known), source)
        assert server.requests == [ARCHIVE]


class TestDamagedCache:
    @pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.999])
    def test_cut(self, known, server, source, part):
        path = fetch(known)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.warns(UserWarning, match=rf"{path.name} is damaged and will be fetched again: .*{path.name}"):
            assert fetch(known) == path
        assert_holds(path, source)
        assert server.requests == [ARCHIVE] * 2

    def test_of_another_network(self, known, source, tmp_path):
        path = fetch(known)
        network(num_classes=7).save_weights(path)
        with pytest.warns(UserWarning, match="its classifier has 7 classes instead of 5"):
            fetch(known)
        assert_holds(path, source)

    def test_without_a_network(self, known, server):
        path = fetch(known)
        path.write_bytes(b"")
        del server.files[ARCHIVE]
        with pytest.warns(UserWarning, match="damaged"):
            refused(known, "HTTP 404")


class TestGetModel:
    def test_their_classes_and_values(self, known, source):
        model = get_model("testing", weights="imagenet")
        assert model.output_shape == (None, CLASSES)
        for x, y in zip(model.weights, source.weights, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=x.path)

    def test_other_classes(self, known, source):
        """The same seed gives the same network, whether the weights had to be fetched or not."""
        heads = []
        for _ in range(2):
            keras.utils.set_random_seed(4)
            with pytest.warns(UserWarning, match=r"imagenet\.weights\.h5 has no classifier for 3 classes; it starts r"):
                model = get_model("testing", weights="imagenet", num_classes=3)
            heads.append(np.array(model.get_layer("classifier").kernel))
            np.testing.assert_array_equal(model.get_layer("head_conv").kernel, source.get_layer("head_conv").kernel)
        assert heads[0].shape == (32, 3)
        np.testing.assert_array_equal(*heads)

    def test_features(self, known, source):
        model = get_model("testing", weights="imagenet", include_top=False)
        np.testing.assert_array_equal(model.get_layer("head_conv").kernel, source.get_layer("head_conv").kernel)

    def test_another_network(self, known):
        with pytest.raises(WeightsError, match="does not hold the weights of testing"):
            get_model("testing", weights="imagenet", blocks=["r1_k3_s2_e1_i16_o16_c1"])

    def test_without_a_name_there_are_1000_classes(self):
        assert get_model("testing").output_shape == (None, 1000)

    def test_knows_their_preprocessing(self, known, tmp_path):
        model = get_model("testing", weights="imagenet")
        assert model.preprocessing == known.preprocessing == "finetune"
        model.save(tmp_path / "model.keras")
        assert keras.models.load_model(tmp_path / "model.keras").preprocessing == "finetune"
        assert get_model("testing").preprocessing == VARIANTS["testing"].preprocessing

    def test_a_name_that_is_not_there_is_told_before_anything_is_built(self, monkeypatch):
        monkeypatch.setattr("efficientnetv2_tf.networks.model.EfficientNet", None)
        with pytest.raises(WeightsError, match="no weights 'imagenet' of efficientnetv2-xl"):
            get_model("efficientnetv2-xl", weights="imagenet")


class TestLoadWeights:
    @pytest.fixture
    def model(self, known):
        return network(seed=2, preprocessing=known.preprocessing)

    def test_by_name(self, known, server, source, model):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            report = load_weights(model, "imagenet", source="official")  # the kept file is not one, and need not be
        assert report.path == str(known.kept) and not report.head_reset
        for x, y in zip(model.weights, source.weights, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=x.path)
        load_weights(model, "imagenet")
        assert server.requests == [ARCHIVE]

    def test_a_source_that_is_none_is_told_before_the_download(self, model, server):
        with pytest.raises(ValueError, match=r"`source` should be auto"):
            load_weights(model, "imagenet", source="onnx")
        assert server.requests == []

    def test_of_another_preprocessing(self, known):
        with pytest.warns(UserWarning, match="with preprocessing='finetune', testing has 'v1': get_model") as told:
            load_weights(network(preprocessing="v1"), "imagenet")
        assert told[0].filename == __file__

    def test_a_file_of_that_name(self, known, server, model, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        other = network(seed=7)
        other.save_weights("other.weights.h5")
        os.rename("other.weights.h5", "imagenet")
        for path in ("./imagenet", pathlib.Path("imagenet")):
            load_weights(model, path, source="keras")
            np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, other.get_layer("stem_conv").kernel)
        assert server.requests == []

    def test_not_of_this_network(self, model):
        with pytest.raises(WeightsError, match="no weights 'imagenet21k' of testing"):
            load_weights(model, "imagenet21k")

    @pytest.mark.parametrize(
        "name, near",
        [("imagenet21k_ft1k", "imagenet21k-ft1k"), ("ImageNet", "imagenet"), ("noisy-student", None)],
    )
    def test_nearly_a_name(self, model, name, near):
        hint = f" Did you mean '{near}'?" if near else ""
        expected = f"Or the name of pretrained weights: imagenet, imagenet21k, imagenet21k-ft1k.{hint}"
        with pytest.raises(WeightsError, match=rf"{name} was not found\. .*{re.escape(expected)}$"):
            load_weights(model, name)

    @pytest.mark.parametrize("path", ["imagenet.h5", "folder/imagenet", "~/imagenet"])
    def test_paths_get_no_such_hint(self, model, path, monkeypatch):
        monkeypatch.setenv("HOME", "/home/nobody")
        with pytest.raises(WeightsError, match=r"was not found\.") as caught:
            load_weights(model, path)
        assert "name of pretrained" not in str(caught.value)
