"""AEDAT 3.1, the format of the DVS128 camera's recordings: packets of events, of which polarity events are used.

A packet is a header and its events. A polarity event is two little-endian words: bit 0 says that it is valid, bit 1 its
polarity, bits 2 to 16 y, 17 to 31 x; then its time in microseconds, whose bits from 31 on are the header's overflow.
"""

import struct

import numpy as np
import torch

from snn.base.errors import UserError

VERSION_LINE, END_OF_HEADER = b"#!AER-DAT3.1\r\n", b"#!END-HEADER\r\n"
PACKET_HEADER = struct.Struct("<hhiiiiii")  # type, source, event size, time offset, overflow, capacity, number, valid
POLARITY = 1  # the type of packets with polarity events
PACKET = 4096  # events that are written together


def decode(data, name):
    """Return the polarity events in the bytes of an AEDAT 3.1 file: times (int64 microseconds) and data words, `[E]`.

    Packets of other types and invalid events are left out. Raises UserError for another version and for a packet that
    is cut short.
    """
    if not data.startswith(VERSION_LINE):
        first = data[:20].split(b"\r\n")[0].decode("ascii", "replace")
        raise UserError(f"{name}: begins with {first!r}, not with {VERSION_LINE.strip().decode()!r} (AEDAT 3.1)")
    position = data.find(END_OF_HEADER) + len(END_OF_HEADER)
    if position < len(END_OF_HEADER):
        raise UserError(f"{name}: its header has no end")
    packets, numbers, overflows = [], [], []
    while position < len(data):
        begin = position + PACKET_HEADER.size
        if begin > len(data):
            raise UserError(f"{name}: the packet at byte {position} is cut short")
        kind, _, size, _, overflow, _, number, _ = PACKET_HEADER.unpack_from(data, position)
        end = begin + size * number
        if size <= 0 or number < 0 or overflow < 0 or (kind == POLARITY and size != 8):
            raise UserError(f"{name}: the packet at byte {position} is broken: {number} events of {size} bytes")
        if end > len(data):
            raise UserError(f"{name}: the packet at byte {position} is cut short, by {end - len(data)} bytes")
        if kind == POLARITY and number:
            packets.append(np.frombuffer(data, "<u4", 2 * number, begin))
            numbers.append(number)
            overflows.append(overflow)
        position = end
    if not packets:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    words, time = np.concatenate(packets).reshape(-1, 2).T
    time = time.astype(np.int64)
    if any(overflows):
        time |= np.repeat(np.array(overflows, np.int64) << 31, numbers)
    valid = words & 1 == 1
    return (time, words) if valid.all() else (time[valid], words[valid])


def encode(events):
    """Return the events as an AEDAT 3.1 file: packets of polarity events interleaved with special events and motion."""
    header = VERSION_LINE + b"#Format: RAW\r\n#Source 1: DVS128\r\n" + END_OF_HEADER
    data = events.x << 17 | events.y << 2 | events.polarity << 1 | 1
    words = torch.stack([data, events.time], 1).int().numpy().astype("<u4")
    packets = [header]
    for first in range(0, len(words), PACKET):
        chunk = words[first : first + PACKET]
        packets.append(_packet(POLARITY, 8, len(chunk), chunk.tobytes()))
        now = int(chunk[-1, 1])
        packets.append(_packet(0, 8, 1, struct.pack("<II", 1, now)))  # a special event
        packets.append(_packet(3, 36, 1, struct.pack("<II7f", 1, now, *[0.0] * 7)))  # the camera's own motion
    return b"".join(packets)


def _packet(kind, size, number, payload):
    return PACKET_HEADER.pack(kind, 1, size, 4, 0, number, number, number) + payload
