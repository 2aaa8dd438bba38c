"""GZIP, inflated in pieces of bounded size: a few bytes may unfold to a thousand times as many."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

_PIECE = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS


class BrokenCompression(Exception):
    """Compressed data is malformed or truncated."""


def inflated(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what ``chunks`` contain, in pieces of at most 256 KiB. Raises BrokenCompression."""
    inflater = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if inflater.eof:  # consecutive members are one document
                    inflater = zlib.decompressobj(_GZIP)
                begun = True
                yield inflater.decompress(rest, _PIECE)
                rest = inflater.unconsumed_tail or inflater.unused_data
        if begun and not inflater.eof:
            yield inflater.flush()
    except zlib.error:
        raise BrokenCompression from None
    if begun and not inflater.eof:
        raise BrokenCompression
