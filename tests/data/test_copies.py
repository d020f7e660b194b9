"""The same picture twice."""

import hashlib
import random

from efficientnetv2_tf.data.copies import CopyFinder, Place, digest


def test_digest():
    assert digest(b"abc") == int.from_bytes(hashlib.blake2b(b"abc", digest_size=8).digest(), "little")
    assert 0 <= digest(b"") < 2**64
    assert len({digest(bytes([value])) for value in range(256)}) == 256


def test_each_copy_with_the_first():
    finder = CopyFinder()
    places = [Place("train", 5, (0,)), Place("train", 2**40, (1,)), Place("train", 7, (0, 3)), Place("eval", 5, (0,))]
    for place, number in zip(places, (10, 2**64 - 1, 10, 10), strict=True):
        finder.add(number, place)
    assert finder.pairs() == [(places[0], places[2]), (places[0], places[3])]


def test_nothing_to_find():
    finder = CopyFinder()
    assert finder.pairs() == []
    finder.add(1, Place("train", 0, (0,)))
    assert finder.pairs() == []
    finder.add(2, Place("train", 1, (0,)))
    assert finder.pairs() == []


def test_many():
    finder, generator = CopyFinder(), random.Random(0)
    numbers = [generator.randrange(500) for _ in range(2000)]
    for key, number in enumerate(numbers):
        finder.add(number, Place("train", key, (number % 7,)))
    pairs = finder.pairs()
    assert len(pairs) == 2000 - len(set(numbers))
    assert [copy.key for _, copy in pairs] == sorted(copy.key for _, copy in pairs)
    for first, copy in pairs:
        assert first.key == numbers.index(numbers[copy.key]) < copy.key
        assert copy.labels == (numbers[copy.key] % 7,)
