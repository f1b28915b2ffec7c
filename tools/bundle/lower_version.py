# SPDX-License-Identifier: Apache-2.0
"""Lets a shared library load where a version that it refers to is missing.

Usage: python3 lower_version.py FILE FROM TO      (as in GLIBC_2.36 GLIBC_2.2.5)

Symbols that the file wants in version FROM it wants in version TO afterwards,
to which it refers as well. A library with versions has no such symbol, so one
without any must have it. Exits with 1 if the file does not refer to both.
"""

import struct
import sys

SHT_GNU_VERNEED = 0x6FFFFFFE


def sections(data):
    """Yields (type, offset, link) of each section of a 64-bit ELF file."""
    offset, = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    for i in range(count):
        at = offset + i * size
        kind, = struct.unpack_from("<I", data, at + 4)
        begin, = struct.unpack_from("<Q", data, at + 24)
        link, = struct.unpack_from("<I", data, at + 40)
        yield kind, begin, link


def string_at(data, offset):
    return data[offset:data.index(b"\0", offset)].decode()


def needed_versions(data):
    """Yields (version, offset of its entry) of all references."""
    table = list(sections(data))
    for kind, begin, link in table:
        if kind != SHT_GNU_VERNEED:
            continue
        strings = table[link][1]
        need = begin
        while True:
            _, _, _, first, following = struct.unpack_from("<HHIII", data, need)
            entry = need + first
            while True:
                _, _, _, name, after = struct.unpack_from("<IHHII", data, entry)
                yield string_at(data, strings + name), entry
                if not after:
                    break
                entry += after
            if not following:
                break
            need += following


def main():
    path, old, new = sys.argv[1:]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    if data[:5] != b"\x7fELF\x02":
        sys.exit("%s is no 64-bit ELF file" % path)
    entries = {}
    for name, entry in needed_versions(data):
        entries.setdefault(name, []).append(entry)
    for name in (old, new):
        if name not in entries:
            sys.exit("%s does not refer to %s" % (path, name))
    # An entry: the name's hash, flags, the number that symbols refer to it by,
    # the name, and how far it is to the next entry.
    to_hash, _, _, to_name, _ = struct.unpack_from("<IHHII", data,
                                                   entries[new][0])
    for entry in entries[old]:
        struct.pack_into("<I", data, entry, to_hash)
        struct.pack_into("<I", data, entry + 8, to_name)
    with open(path, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
