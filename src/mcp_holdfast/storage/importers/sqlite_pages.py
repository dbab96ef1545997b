"""Rows that SQLite can no longer reach, from the pages of a damaged database (sqlite.org/fileformat2.html).

A row lies in a leaf page of its table's b-tree. Each such page tells where its rows are, so it can be read without the
pages that lead to it, which is where damage makes everything below unreachable.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LEAF_OF_TABLE = 0x0D
LEAF_HEADER = 8
HEADER_OF_FILE = 100
PAGE_SIZES = tuple(2**power for power in range(9, 17))
USUAL_PAGE_SIZE = 4096
LONGEST_ROW = 16 * 1024 * 1024
INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
TEXT_FROM = 13


class NotARow(ValueError):
    """These bytes are no row of the table that is looked for."""


def salvaged_rows(database: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read all rows with as many columns as the table that is looked for; the first is its INTEGER PRIMARY KEY.

    SQLite must have opened the database before: however damaged it is, that brings in what the write-ahead log holds.
    It must not keep pages that are free (auto_vacuum, as diskcache sets it): in those are rows that were deleted.
    """
    content = database.read_bytes()
    size = _page_size(content)
    for start in range(0, len(content), size):
        page = content[start : start + size]
        header = HEADER_OF_FILE if start == 0 else 0
        if len(page) < size or page[header] != LEAF_OF_TABLE:
            continue
        for offset in _cells(page, header):
            try:
                yield _row(content, page, offset, size, columns)
            except (IndexError, struct.error, NotARow, UnicodeDecodeError):
                continue


def _page_size(content: bytes) -> int:
    size = int.from_bytes(content[16:18])
    size = 2**16 if size == 1 else size
    return size if size in PAGE_SIZES else USUAL_PAGE_SIZE


def _cells(page: bytes, header: int) -> list[int]:
    count = int.from_bytes(page[header + 3 : header + 5])
    first = header + LEAF_HEADER
    pointers = page[first : first + 2 * min(count, len(page) // 2)]
    return [int.from_bytes(pointers[at : at + 2]) for at in range(0, len(pointers) - 1, 2)]


def _row(content: bytes, page: bytes, offset: int, size: int, columns: Sequence[str]) -> dict[str, Any]:
    length, offset = _varint(page, offset)
    row_id, offset = _varint(page, offset)
    if length > LONGEST_ROW:
        raise NotARow
    payload = _payload(content, page, offset, length, size)
    header_length, at = _varint(payload, 0)
    types = []
    while at < header_length:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != len(columns) or at != header_length:
        raise NotARow
    values = []
    for kind in types:
        value, at = _value(payload, at, kind)
        values.append(value)
    return {**dict(zip(columns, values, strict=True)), columns[0]: row_id}


def _payload(content: bytes, page: bytes, offset: int, length: int, size: int) -> bytes:
    """A row's bytes: what fits into its page, and the rest from a chain of overflow pages."""
    if length <= size - 35:
        return page[offset : offset + length]
    least = (size - 12) * 32 // 255 - 23
    local = least + (length - least) % (size - 4)
    local = local if local <= size - 35 else least
    payload = page[offset : offset + local]
    following = int.from_bytes(page[offset + local : offset + local + 4])
    while following and len(payload) < length:
        overflow = content[(following - 1) * size : following * size]
        if len(overflow) < size:
            raise NotARow
        payload += overflow[4:]
        following = int.from_bytes(overflow[:4])
    if len(payload) < length:
        raise NotARow
    return payload[:length]


def _varint(content: bytes, offset: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the offset behind it."""
    number = 0
    for taken in range(8):
        byte = content[offset + taken]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, offset + taken + 1
    return number << 8 | content[offset + 8], offset + 9


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in {0, 8, 9}:
        return {0: None, 8: 0, 9: 1}[kind], at
    if kind in INTEGER_SIZES:
        end = at + INTEGER_SIZES[kind]
        return int.from_bytes(payload[at:end], signed=True), end
    if kind == 7:
        return struct.unpack(">d", payload[at : at + 8])[0], at + 8
    if kind < TEXT_FROM - 1:
        raise NotARow
    end = at + (kind - TEXT_FROM + 1) // 2
    if end > len(payload):
        raise NotARow
    value = payload[at:end]
    return (value.decode() if kind % 2 else value), end
