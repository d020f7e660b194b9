"""Walking folders: what belongs to which class, in one order, and what is said of folders that will not do."""

import os
import random
import subprocess
import sys

import pytest

from efficientnetv2_tf.data.folder_listing import ending, entries, list_classes, some
from efficientnetv2_tf.data.sources import DataError


def test_what_is_a_picture_and_of_which_class(write_files):
    root = write_files(
        {
            "cat/b.JPG": b"", "cat/a.jpeg": b"", "cat/deep/er/c.WebP": b"", "dog/x.bmp": b"", "dog/y.gif": b"",
            "dog/z.y.png": b"", "dog/notes.txt": b"", "dog/jpg": b"", "loose.png": b"", "cat/.hidden.jpg": b"",
            "cat/.DS_Store": b"", "cat/Thumbs.db": b"", "__MACOSX/cat/a.jpg": b"", ".git/a.jpg": b"",
            "cat/__MACOSX/a.jpg": b"", "cat/desktop.ini": b"", "cat/._a.jpg": b"",
            "cat/a.jpeg.explain.png": b"",
        }
    )  # fmt: skip
    listing = list_classes(root)
    assert listing.folder == root
    assert listing.classes == {
        "cat": ["cat/a.jpeg", "cat/b.JPG", "cat/deep/er/c.WebP"],
        "dog": ["dog/x.bmp", "dog/y.gif", "dog/z.y.png"],
    }
    assert listing.others == ["dog/jpg", "dog/notes.txt", "loose.png"]


def test_the_order_is_not_the_file_systems(tmp_path):
    names = [f"{kind}/{number}.png" for kind in ("10", "2", "B", "a", "ä") for number in range(40)]
    listings = []
    for turn in range(2):
        random.Random(turn).shuffle(names)
        for name in names:
            path = tmp_path / str(turn) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        listings.append(list_classes(str(tmp_path / str(turn))))
    assert [*listings[0].classes] == [*listings[1].classes] == ["10", "2", "B", "a", "ä"]
    assert listings[0].classes == listings[1].classes
    assert listings[0].classes["2"] == sorted(f"2/{number}.png" for number in range(40))


def test_links_are_followed_but_not_in_circles(write_files, tmp_path):
    root = write_files({"root/cat/a.png": b"", "root/dog/b.png": b"", "else/where/c.png": b""}) + "/root"
    os.symlink(tmp_path / "else", tmp_path / "root/cat/link")
    os.symlink(tmp_path / "root/cat", tmp_path / "root/cat/circle")
    os.symlink("self.png", tmp_path / "root/dog/self.png")  # cannot be followed, so it is found bad when it is read
    os.symlink("/nowhere", tmp_path / "root/dog/broken.png")
    os.symlink(tmp_path / "else/where", tmp_path / "root/fox")
    assert list_classes(root).classes == {
        "cat": ["cat/a.png", "cat/link/where/c.png"],
        "dog": ["dog/b.png", "dog/broken.png", "dog/self.png"],
        "fox": ["fox/c.png"],
    }


def test_thousands_of_files(tmp_path):
    for kind in range(10):
        (tmp_path / f"c{kind}").mkdir()
        for number in range(400):
            (tmp_path / f"c{kind}/{number:04d}.jpg").touch()
    classes = list_classes(str(tmp_path)).classes
    assert {name: len(paths) for name, paths in classes.items()} == {f"c{kind}": 400 for kind in range(10)}
    assert classes["c3"][399] == "c3/0399.jpg"


@pytest.mark.parametrize(
    "files, said",
    [
        ({}, "It holds nothing."),
        ({"a.jpg": b"", "b.PNG": b""}, "It holds pictures without a class: 'a.jpg', 'b.PNG'."),
        ({"readme.txt": b""}, "It holds 'readme.txt'."),
        ({"a": b"", ".b/c.jpg": b""}, "It holds 'a'."),
    ],
)
def test_no_class_folders(write_files, files, said):
    root = write_files(files)
    with pytest.raises(DataError) as caught:
        list_classes(root)
    assert str(caught.value) == f"{root} should hold a folder of pictures for each class. {said}"


@pytest.mark.parametrize("name", ["val", "Test", "training"])
def test_splits_that_would_be_taken_for_classes(write_files, name):
    root = write_files({f"{name}/cat/a.png": b"", f"{name}/dog/b.png": b"", "cat/a.png": b""})
    with pytest.raises(DataError, match=f"{name} holds folders, as a split does, .*data.train_split"):
        list_classes(root)
    write_files({f"{name}/a.png": b""})
    assert [*list_classes(root).classes] == sorted(["cat", name])


@pytest.mark.parametrize("path", [b"cat/\xff.png", b"d\xe4g/a.png"])
def test_names_that_are_not_utf8(tmp_path, path):
    path = os.path.join(os.fsencode(tmp_path), path)
    os.makedirs(os.path.dirname(path))
    with open(path, "wb"):
        pass
    with pytest.raises(DataError) as caught:
        list_classes(str(tmp_path))
    message = str(caught.value)
    assert "expected names in UTF-8" in message and "\\x" in message and "convmv" in message
    message.encode()  # can be printed


def test_folder_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=f"The folder {tmp_path}/none cannot be read: No such file or directory"):
        list(entries(str(tmp_path), "none"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_folder_of_somebody_else(write_files):
    root = write_files({"cat/a.png": b""})
    os.chmod(f"{root}/cat", 0o700)
    os.chmod(root, 0o755)
    code = (
        "import os, sys\n"
        "from efficientnetv2_tf.data.folder_listing import list_classes\n"
        f"os.chdir({root!r}); os.seteuid(65534)\n"
        "list_classes('.')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "DataError: The folder ./cat cannot be read: Permission denied." in done.stderr


def test_endings():
    assert [ending(name) for name in ("a.JPG", "b/a.tar.gz", "jpg", "a.png/b")] == [".jpg", ".gz", "g", ".png/b"]


def test_some_names():
    assert some([]) == ""
    assert some(["a", "b"]) == "'a', 'b'"
    assert some(list("abcdefg"), most=2) == "'a', 'b' and 5 more"
