"""Finding the same picture twice, in data sets of millions."""

import array
import hashlib
import itertools
import typing

import numpy as np


class Place(typing.NamedTuple):
    """Where a picture is: split ("train" or "eval"), key, and its labels."""

    split: str
    key: int
    labels: tuple[int, ...]


class CopyFinder:
    """Remembers pictures by a hash of their bytes, in 32 bytes each."""

    def __init__(self):
        self._digests, self._keys = array.array("Q"), array.array("q")
        self._others, self._shared = [], {}  # of split and labels there are few, so the pictures share them

    def add(self, digest, place):
        """Takes in a picture.

        Args:
            digest: of `digest`.
            place: its `Place`.
        """
        other = (place.split, place.labels)
        self._digests.append(digest)
        self._keys.append(place.key)
        self._others.append(self._shared.setdefault(other, other))

    def pairs(self):
        """List of (`Place` of the first, `Place` of the copy), one for each copy, in the order they were added."""
        digests = np.array(self._digests, np.uint64)
        order = np.argsort(digests, kind="stable")  # so the first added comes first of its equals
        first_of = {}
        for before, copy in itertools.pairwise(order):
            if digests[before] == digests[copy]:
                first_of[copy] = first_of.get(before, before)
        return [(self._place(first_of[copy]), self._place(copy)) for copy in sorted(first_of)]

    def _place(self, number):
        split, labels = self._others[number]
        return Place(split, self._keys[number], labels)


def digest(encoded):
    """64 bits of a hash of some bytes: of ten million pictures two differ and share it once in 400,000 times."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
