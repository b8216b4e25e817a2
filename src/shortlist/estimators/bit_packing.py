"""Codes of 1 to 8 bits, stored in as many bits: one plane of packed bytes for each bit."""

from __future__ import annotations

from array_api_compat import array_namespace, device

from shortlist.estimators.base import Array


def pack_bits(codes: Array, bits: int) -> Array:
    """Pack uint8 codes [rows, width] below 2^bits into uint8 [rows, bits, ceil(width / 8)].

    Byte b of plane p holds bit p of the codes 8 b to 8 b + 7, the first in its lowest bit.
    """
    xp = array_namespace(codes)
    rows, width = codes.shape
    padding = xp.zeros((rows, -width % 8), dtype=xp.uint8, device=device(codes))
    eights = xp.reshape(xp.concat([codes, padding], axis=1), (rows, -1, 8))
    planes = []
    for bit in range(bits):
        plane = xp.zeros(eights.shape[:2], dtype=xp.uint8, device=device(codes))
        for place in range(8):
            plane = plane | (((eights[:, :, place] >> bit) & 1) << place)
        planes.append(plane)
    return xp.stack(planes, axis=1)


def unpack_bits(planes: Array, width: int) -> Array:
    """Inverse of `pack_bits`: uint8 [rows, width]."""
    xp = array_namespace(planes)
    rows, bits, _ = planes.shape
    places = []
    for place in range(8):
        code = planes[:, 0, :] >> place & 1
        for bit in range(1, bits):
            code = code | ((planes[:, bit, :] >> place & 1) << bit)
        places.append(code)
    return xp.reshape(xp.stack(places, axis=2), (rows, -1))[:, :width]


def packed_shape(rows: int, width: int, bits: int) -> tuple[int, int, int]:
    """Shape of the packed codes."""
    return rows, bits, -(-width // 8)
