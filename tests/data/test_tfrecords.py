"""TFRecord files by name: the release's layouts, patterns of one's own, and what is said where they are missing."""

import re

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from efficientnetv2_tf.data.sources import DataError, open_source

PER_FILE = 3


def feature(value):
    value = value if isinstance(value, list) else [value]
    if value and isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def write(path, examples):
    """Writes dictionaries of bytes, integers, or lists of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            features = tf.train.Features(feature={key: feature(value) for key, value in example.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())


def imagenet_example(split, file, record):
    """With all features that the release's script writes, and labels from 1 on."""
    label = 1 + (file * 37 + record) % 1000
    return {
        "image/height": 8, "image/width": 8, "image/colorspace": b"RGB", "image/channels": 3,
        "image/class/label": label, "image/class/synset": b"n01440764", "image/format": b"JPEG",
        "image/filename": b"x.JPEG", "image/encoded": f"{split} {file}.{record}".encode(),
    }  # fmt: skip


def write_imagenet(folder, train=24, validation=2):
    for split, number in (("train", train), ("validation", validation)):
        for file in range(number):
            examples = [imagenet_example(split, file, record) for record in range(PER_FILE)]
            write(folder / f"{split}-{file:05d}-of-{number:05d}", examples)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write_imagenet(folder)
    return folder


@pytest.fixture(scope="module")
def imagenet21k(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet21k")
    for file in range(22):
        labels = [[], [file], [file, 21842]]
        examples = [{"id": b"x", "image": b"%d.%d" % (file, i), "labels": labels[i]} for i in range(PER_FILE)]
        write(folder / f"imagenet21k-{file:05d}", examples)
    return folder


def images_of(split):
    return [image.decode() for _, image, _ in split.open().as_numpy_iterator()]


def labels_of(split):
    return [label.tolist() for _, _, label in split.open().as_numpy_iterator()]


def error_of(name, **options):
    with pytest.raises(DataError) as caught:
        open_source(name, **options)
    return str(caught.value)


# --- ImageNet ---


def test_imagenet(imagenet):
    source = open_source("imagenet", data_dir=str(imagenet))
    assert (source.train.count, source.eval.count, source.num_classes) == (72, 6, 1000)
    assert not source.multi_label
    assert images_of(source.train) == [f"train {file}.{i}" for file in range(24) for i in range(PER_FILE)]
    assert images_of(source.eval) == [f"validation {file}.{i}" for file in range(2) for i in range(PER_FILE)]
    assert labels_of(source.eval) == [0, 1, 2, 37, 38, 39]  # stored from 1 on
    assert source.eval.where((1 << 32) + 2) == f"{imagenet}/validation-00001-of-00002, record 2"
    spec = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64))
    assert source.train.open().element_spec == spec


@pytest.mark.parametrize(
    ("split", "files"),
    [("train", range(20, 24)), ("minival", range(20)), ("trainval", range(24))],
)
def test_splits_of_imagenet(imagenet, split, files):
    source = open_source("imagenet", data_dir=str(imagenet), train_split=split, eval_split=split)
    expected = [f"train {file}.{i}" for file in files for i in range(PER_FILE)]
    assert source.train.count == source.eval.count == len(expected)
    assert images_of(source.train) == expected
    assert source.train.where(0) == f"{imagenet}/train-{files[0]:05d}-of-00024, record 0"


def test_names_of_imagenet_are_those_of_tensorflow_datasets(imagenet):
    """So that a network trained on either's files can be used with the other's."""
    names = open_source("imagenet", data_dir=str(imagenet)).class_names
    path = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    assert list(names) == tfds.features.ClassLabel(names_file=path).names
    assert sorted(names) == list(names) and len(set(names)) == 1000  # the order of the labels 1 to 1000
    other = [f"class {number}" for number in range(1000)]
    assert open_source("imagenet", data_dir=str(imagenet), class_names=other).class_names == tuple(other)


def test_imagenet_with_the_sigmoid_loss(imagenet):
    source = open_source("imagenet", data_dir=str(imagenet), multi_label=True)
    assert source.multi_label and labels_of(source.eval) == [[0], [1], [2], [37], [38], [39]]


def test_folders_of_the_script_before_its_upload(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / split / f"{split}-00000-of-00001", [imagenet_example(split, 0, 0)])
    source = open_source("imagenet", data_dir=str(tmp_path))
    assert images_of(source.train) == ["train 0.0"] and images_of(source.eval) == ["validation 0.0"]


def test_few_files_can_be_trained_on_but_have_no_minival(tmp_path):
    write_imagenet(tmp_path, train=20, validation=1)
    assert open_source("imagenet", data_dir=str(tmp_path)).train.count == 60
    for split in ("train", "minival"):
        message = error_of("imagenet", data_dir=str(tmp_path), train_split=split)
        assert f"data.train_split: {split!r}" in message and "the first 20 are held out" in message
        assert f"{tmp_path} has 20 of them" in message and "'trainval'" in message


def test_imagenet21k(imagenet21k):
    source = open_source("imagenet21k", data_dir=str(imagenet21k), multi_label=True)
    assert (source.num_classes, source.multi_label) == (21843, True)
    assert source.class_names[::21842] == ("0", "21842")
    assert images_of(source.train) == [f"{file}.{i}" for file in (20, 21) for i in range(PER_FILE)]
    assert images_of(source.eval) == [f"{file}.{i}" for file in range(16) for i in range(PER_FILE)]
    assert labels_of(source.train) == [[], [20], [20, 21842], [], [21], [21, 21842]]
    assert source.train.open().element_spec[2] == tf.TensorSpec([None], tf.int64)
    minival = open_source("imagenet21k", data_dir=str(imagenet21k), eval_split="minival").eval
    assert images_of(minival) == [f"{file}.{i}" for file in range(16, 20) for i in range(PER_FILE)]


# --- what is missing ---


@pytest.mark.parametrize(
    ("name", "patterns"), [("imagenet", "'imagenet', train* and val*"), ("imagenet21k", "'imagenet21k', imagenet21k*")]
)
def test_no_folder_given(name, patterns):
    message = error_of(name)
    assert message.startswith(
        f"data.data_dir: expected the folder, local or gs://, of the TFRecord files of {patterns}"
    )
    assert "--data_dir=DIR" in message


def test_what_was_looked_for_is_said(tmp_path):
    message = error_of("imagenet", data_dir=str(tmp_path / "nowhere"))
    assert f"needs the TFRecord files train* or train/train* of 'trainval' in {tmp_path / 'nowhere'}" in message
    assert f"There is no folder {tmp_path / 'nowhere'}." in message
    for hint in ("imagenet_to_gcs.py", "--dataset=imagenet2012", "--dataset=folder:PATH"):
        assert hint in message
    assert f"The folder {tmp_path} is empty." in error_of("imagenet", data_dir=str(tmp_path))
    write_imagenet(tmp_path, train=2, validation=0)
    message = error_of("imagenet", data_dir=str(tmp_path))
    assert "val* or validation/val* of 'validation'" in message
    assert f"The folder {tmp_path} has: train-00000-of-00002, train-00001-of-00002." in message
    assert "imagenet21k* of 'train'" in error_of("imagenet21k", data_dir=str(tmp_path))


def test_unknown_splits(imagenet):
    message = error_of("imagenet", data_dir=str(imagenet), train_split="train[:10%]")
    assert message == (
        "data.train_split: expected a split of 'imagenet', of trainval, train, minival, validation. "
        "Received: 'train[:10%]'"
    )
    assert "data.eval_split: expected" in error_of("imagenet", data_dir=str(imagenet), eval_split="test")


def test_another_number_of_classes(imagenet):
    message = error_of("imagenet", data_dir=str(imagenet), num_classes=10)
    assert message == "model.num_classes: expected 1000, the classes of 'imagenet', or null. Received: 10"


def test_files_of_another_kind(tmp_path, imagenet21k):
    for path in imagenet21k.iterdir():
        (tmp_path / path.name.replace("imagenet21k", "train")).write_bytes(path.read_bytes())
    message = error_of("imagenet", data_dir=str(tmp_path), eval_split="trainval")
    assert f"{tmp_path}/train-00000: expected a feature 'image/encoded'" in message
    assert "have: id (bytes), image (bytes), labels (empty)." not in message  # nine others have labels
    assert "image (bytes), labels (int64)." in message


def test_a_cut_file_is_found_before_a_training(tmp_path):
    write_imagenet(tmp_path, train=3, validation=1)
    path = tmp_path / "train-00001-of-00003"
    path.write_bytes(path.read_bytes()[:-5])
    message = error_of("imagenet", data_dir=str(tmp_path))
    assert f"{path} is cut off" in message and "its record 2" in message


# --- patterns ---


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Own keys, names and labels that begin with 5, and the same classes as text."""
    folder = tmp_path_factory.mktemp("flowers")
    for split, files in (("fit", 4), ("check", 2)):
        for file in range(files):
            labels = [5 + (file + i) % 3 for i in range(5)]
            examples = [
                {"png": f"{split} {file}.{i}".encode(), "kind": label, "text": [b"rose", b"lily", b"iris"][label - 5]}
                for i, label in enumerate(labels)
            ]
            write(folder / f"{split}{file}.tfrecord", examples)
    return folder


KEYS = {"image_key": "png", "label_key": "kind", "label_offset": 5}


def test_patterns_for_both_splits(flowers):
    name = f"tfrecord:{flowers}/fit*"
    source = open_source(name, eval_split=f"{flowers}/check?.tfrecord", num_classes=3, **KEYS)
    assert (source.name, source.class_names, source.multi_label) == (name, ("0", "1", "2"), False)
    assert images_of(source.train) == [f"fit {file}.{i}" for file in range(4) for i in range(5)]
    assert images_of(source.eval) == [f"check {file}.{i}" for file in range(2) for i in range(5)]
    assert labels_of(source.eval) == [0, 1, 2, 0, 1, 1, 2, 0, 1, 2]


def test_patterns_in_a_folder_and_text_for_labels(flowers):
    options = {"image_key": "png", "label_key": "text", "class_names": ("iris", "lily", "rose")}
    source = open_source("tfrecord:fit*", data_dir=str(flowers), eval_split="check*", **options)
    assert source.class_names == ("iris", "lily", "rose")
    assert labels_of(source.eval) == [2, 1, 0, 2, 1, 1, 0, 2, 1, 0]
    twice = tf.data.Dataset.range(1).flat_map(lambda _: source.train.open((0, 1), tf.constant([1, 2], tf.int64)))
    by_key = {key: label for key, _, label in source.train.open().as_numpy_iterator()}
    assert {key: label for key, _, label in twice.as_numpy_iterator()} == by_key  # names are looked up there too


@pytest.mark.parametrize("multi_label", [False, True])
def test_odd_records_come_as_empty_pictures(tmp_path, multi_label):
    """One has a label of another type, and one is no example."""
    write(tmp_path / "a", [{"png": b"%d" % i, "kind": b"rose" if i == 4 else 5 + i} for i in range(6)])
    with tf.io.TFRecordWriter(str(tmp_path / "b")) as writer:
        for record in (b"\xff" * 20, next(iter(tf.data.TFRecordDataset(str(tmp_path / "a")))).numpy()):
            writer.write(record)
    source = open_source(
        f"tfrecord:{tmp_path}/*", eval_split="a", data_dir=tmp_path, num_classes=9, **KEYS, multi_label=multi_label
    )
    assert images_of(source.train) == ["0", "1", "2", "3", "", "5", "", "0"]
    expected = [0, 1, 2, 3, -1, 5, -1, 0]
    assert labels_of(source.train) == ([[i] if i >= 0 else [] for i in expected] if multi_label else expected)
    odd = [source.train.where(int(key)) for key, image, _ in source.train.open() if image == b""]
    assert odd == [f"{tmp_path}/a, record 4", f"{tmp_path}/b, record 0"]


def test_a_share_is_put_aside_without_a_pattern_for_evaluation(flowers):
    options = {"num_classes": 3, "eval_fraction": 0.3, **KEYS}
    sources = [open_source(f"tfrecord:{flowers}/fit*", split_seed=seed, **options) for seed in (0, 0, 1)]
    everything = sorted(f"fit {file}.{i}" for file in range(4) for i in range(5))
    evaluation = [images_of(source.eval) for source in sources]
    for source, images in zip(sources, evaluation, strict=True):
        assert len(images) == source.eval.count == 6
        assert sorted(images_of(source.train) + images) == everything
    assert evaluation[0] == evaluation[1] != evaluation[2]
    places = [source.eval.where(int(key)) for source in sources[:1] for key, *_ in source.eval.open()]
    assert [re.sub(r".*fit(\d)\.tfrecord, record (\d)", r"fit \1.\2", place) for place in places] == evaluation[0]


def test_patterns_that_match_nothing(flowers):
    message = error_of(f"tfrecord:{flowers}/none*", num_classes=3)
    assert message.startswith(f"data.dataset: no file matches '{flowers}/none*'. The folder {flowers} has: check0.")
    message = error_of(f"tfrecord:{flowers}/fit*", eval_split="/nowhere/x*", num_classes=3, **KEYS)
    assert message == "data.eval_split: no file matches '/nowhere/x*'. There is no folder /nowhere."
    assert error_of("tfrecord:/no*/x*", num_classes=3) == "data.dataset: no file matches '/no*/x*'."


def test_what_patterns_need(flowers):
    name = f"tfrecord:{flowers}/fit*"
    assert "model.num_classes: expected the number of classes" in error_of(name, **KEYS)
    assert "expected 2, the classes of" in error_of(name, class_names=("a", "b"), num_classes=3, **KEYS)
    assert "data.train_split: expected null" in error_of(name, train_split="train", num_classes=3, **KEYS)
    assert "have: kind (int64), png (bytes), text (bytes)." in error_of(name, num_classes=3)
    options = {**KEYS, "label_offset": 0}
    assert "data.label_offset: expected labels from 0 to 2" in error_of(name, num_classes=3, **options)


def test_files_in_both_splits_are_told(flowers, caplog):
    options = {"num_classes": 3, **KEYS}
    open_source(f"tfrecord:{flowers}/*", eval_split=f"{flowers}/check*", **options)
    assert "2 of the 2 evaluation files are training files too." in caplog.text
    caplog.clear()
    open_source(f"tfrecord:{flowers}/fit*", eval_split=f"{flowers}/check*", **options)
    assert caplog.text == ""
