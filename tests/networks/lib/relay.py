#!/usr/bin/env python3
"""A link with delay, jitter and loss, where the kernel has no netem: two TUN devices in two network namespaces, and this
program between them.

    relay.py NAMESPACE DEVICE NAMESPACE DEVICE [--delay-ms N] [--jitter-ms N] [--loss PERCENT] [--seed N]

Both ways alike, and each packet for itself: it is lost, or it comes after the delay plus or minus up to the jitter. What comes
later than its successor is not held back for it: jitter reorders, as it does on radio links. Prints "ready" when the devices
are there. "cut N" on its standard input loses everything for N milliseconds; it ends with that input.
"""

import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
CLONE_NEWNET = 0x40000000
MAX_PACKET = 2048
# Packets under way in one direction: seconds of video.
MAX_QUEUE = 4096


def main():
    asked = arguments()
    chance = random.Random(asked.seed)
    devices = [tun(*asked.ends[:2]), tun(*asked.ends[2:])]
    other = dict(zip(devices, reversed(devices)))
    print("ready", flush=True)
    under_way, number, cut_until = [], 0, 0
    while True:
        wait = max(0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select([sys.stdin, *devices], [], [], wait)
        if sys.stdin in readable:
            order = sys.stdin.readline().split()
            if not order:
                return
            cut_until = time.monotonic() + float(order[1]) / 1000
            under_way.clear()
        for device in set(readable) & set(devices):
            packet = os.read(device, MAX_PACKET)
            is_lost = time.monotonic() < cut_until or chance.random() * 100 < asked.loss
            if is_lost or len(under_way) >= 2 * MAX_QUEUE:
                continue
            late = (asked.delay_ms + asked.jitter_ms * chance.uniform(-1, 1)) / 1000
            number += 1
            heapq.heappush(under_way, (time.monotonic() + late, number, other[device], packet))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, device, packet = heapq.heappop(under_way)
            try:
                os.write(device, packet)
            except OSError:
                pass  # the device is down: lost


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ends", nargs=4, metavar="NAMESPACE DEVICE")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--jitter-ms", type=float, default=0)
    parser.add_argument("--loss", type=float, default=0, help="percent")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def tun(namespace, name):
    """A TUN device in a namespace; the descriptor stays good outside of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as own, open(f"/run/netns/{namespace}") as its:
        enter(libc, its)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
        enter(libc, own)
    return device


def enter(libc, namespace):
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    main()
