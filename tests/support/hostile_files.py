"""Files that are made to harm whoever reads them: small, and far from ever being decoded."""

from __future__ import annotations

import struct

_SIDE = 8000
_BLOCKS = (_SIDE // 8) ** 2


def endless_jpeg(scans: int = 3000) -> bytes:
    """A progressive JPEG of 64 megapixels whose scans each say, in about 100 bytes, that nothing changes anywhere:
    every one of them is a walk over a million blocks."""
    # The one Huffman code, a single 0 bit, means an end of band over 2**14 blocks and as many more as 14 bits say
    # (ISO/IEC 10918-1 G.1.2.2).
    extra = 0b01010101010101
    runs = -(-_BLOCKS // ((1 << 14) + extra))
    bits = f"0{extra:014b}" * runs
    coded = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8), "big")
    scan = _segment(0xDA, bytes((1, 1, 0, 1, 63, 0))) + coded.replace(b"\xff", b"\xff\x00")
    return (
        b"\xff\xd8"
        + _segment(0xDB, bytes(1) + bytes([1] * 64))
        + _segment(0xC2, struct.pack(">BHHB3B", 8, _SIDE, _SIDE, 1, 1, 0x11, 0))
        + _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
        + scan * scans
        + b"\xff\xd9"
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
