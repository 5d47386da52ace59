#!/usr/bin/env python3
"""What a server does with more than it has time for; the curve, second by second, and a line for each level.

    cargo build --release --workspace --bin moonring --bin moonring-loadtest
    sudo loadtest/overload.py --levels 1.03,1.3,2

The server is held to a share of its core (a quota of its control group, so that it needs root), that it and not the load is
what is full. First the highest clean load is looked for: meetings of four of which less than 0.1 % of the packets is lost, none
of the video left out, and as many packets forwarded for each as of the first 16. Then they run with more meetings beside them, which join, stay and leave, one level after the other;
between two levels it is the highest clean load again. Beside them all is a room of four who only talk. Printed for each level:

    usual       packets a second of the highest clean load, in the seconds before the level and after it
    forwarded   packets a second, relative to that
    sound lost  of the room that only talks
    resent      share of what was sent
    back        seconds after the level until the meetings lose nothing for three seconds

With --with-audio those in the meetings talk, too, all of them: nothing of that is left out, so that twice the load is sound first.
Nothing but Python's library is needed.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import TARGET, Server, load

CLEAN_PERCENT = 0.1
WHOLE = 0.98
# Shorter than anything that the shard does at once: it has a slower core then, and not one that stands still every 10 ms, which a
# pause of 20 ms makes worse (what is not used of a quota in its period is lost, and what comes together waits for the next).
PERIOD_US = 2_000
MEASURED_S = 5
SETTLE_S = 12
# Clients that have gone without a word are kept for a while, for a resume.
GONE_S = 20
QUIET_S = 3
REFERENCE_S = 6


def main():
    asked = arguments()
    group = Group(asked.share)
    try:
        if not asked.meetings:
            asked.meetings = highest(asked, group)
        curve(asked, group)
    finally:
        group.remove()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--share", type=float, default=0.5, help="of a core that the server may use")
    parser.add_argument("--meetings", type=int, help="the highest clean load, where it is known")
    parser.add_argument("--with-audio", action="store_true", help="everybody in the meetings talks")
    parser.add_argument("--levels", default="1.03,1.3,2", help="of that load, with commas")
    parser.add_argument("--hold-s", type=int, default=15, help="how long each level lasts")
    parser.add_argument("--json", type=Path, help="writes the curve")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder with moonring and moonring-loadtest")
    return parser.parse_args()


class Group:
    """A control group whose processes share a part of a core, of either version of control groups."""

    def __init__(self, share):
        first = Path("/sys/fs/cgroup/cpu")
        self.path = (first if first.exists() else Path("/sys/fs/cgroup")) / f"moonring-overload-{os.getpid()}"
        self.path.mkdir()
        quota = int(PERIOD_US * share)
        if first.exists():
            (self.path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self.path / "cpu.max").write_text(f"{quota} {PERIOD_US}")

    def add(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self):
        self.path.rmdir()


def meetings(asked, name, count, seconds):
    arguments = ("rooms", "--rooms", str(count), "--clients", "4", "--room", name, "--joins-per-s", "200", "--open-one-in", "16",
                 "--warm-up-s", "4", "--duration-s", str(seconds), *(["--with-audio"] if asked.with_audio else []))
    return load(asked.target, *arguments, wait=False)


def highest(asked, group):
    """The most meetings that lose next to nothing."""
    good, bad, count, of_each = 0, None, 16, 0
    while bad is None or bad - good > max(1, good // 20):
        with tempfile.TemporaryDirectory() as data:
            server = Server(asked.target, data)
            group.add(server.process.pid)
            process, path = meetings(asked, "meeting", count, 6)
            kept = kept_until_end(server, process, 4 * count)
            server.end(signal.SIGKILL)
        report = json.loads(path.read_text())
        rate = report["packets_out_per_s"] / count
        # Video that was dropped in the queue for being too old is no loss that a receiver sees.
        whole = rate > WHOLE * of_each and kept == 100
        clean = report["loss_percent"] < CLEAN_PERCENT and report["connected"] == report["clients"] and whole
        of_each = of_each or rate
        overrun = f", {report['overrun']} lost by the load itself" if report["overrun"] else ""
        print(f"{count} meetings: {report['packets_out_per_s']:.0f} packets/s, {report['loss_percent']:.3f} % lost, "
              f"{kept:.1f} % of the video kept{overrun}", file=sys.stderr, flush=True)
        good, bad = (count, bad) if clean else (good, count)
        count = good * 2 if bad is None else (good + bad) // 2
        if good == 0 and bad == 1:
            sys.exit("not even one meeting is clean")
    return good


def kept_until_end(server, process, clients):
    """The smallest part of the video, in per cent, that the server had time for in the last seconds of a load."""
    kept = [0]
    while process.poll() is None:
        time.sleep(1)
        figures = server.metrics()
        # A shard tells of itself once a second, for the first time after one.
        if figures.get("moonring_shard_clients", 0) >= clients:
            kept.append(figures["moonring_shard_video_kept_permille"] / 10)
    return min(kept[-MEASURED_S:])


def curve(asked, group):
    levels = [float(level) for level in asked.levels.split(",")]
    total = 30 + len(levels) * (asked.hold_s + SETTLE_S + GONE_S)
    with tempfile.TemporaryDirectory() as data:
        server = Server(asked.target, data)
        group.add(server.process.pid)
        began = time.monotonic()
        base, base_report = meetings(asked, "base", asked.meetings, total)
        probe, probe_report = load(asked.target, "audio-room", "--clients", "4", "--room", "talk", "--duration-s", str(total), wait=False)
        seconds, spans = [], []
        watch(server, began, seconds, 20)
        for level in levels:
            extra, _ = meetings(asked, f"extra{len(spans)}", max(1, round(asked.meetings * (level - 1))), total)
            start = time.monotonic() - began
            watch(server, began, seconds, asked.hold_s)
            end = time.monotonic() - began
            spans.append((level, start, end))
            extra.terminate()
            extra.wait()
            watch(server, began, seconds, SETTLE_S)
            watch_until_gone(server, began, seconds, start)
        for process in (base, probe):
            process.wait()
        server.end(signal.SIGKILL)
    reports = [json.loads(path.read_text()) for path in (base_report, probe_report)]
    tell(asked, seconds, spans, *reports)


def watch(server, began, seconds, duration):
    """Notes what the server counts, each second."""
    end = time.monotonic() + duration
    while time.monotonic() < end:
        time.sleep(1)
        figures = server.metrics()
        if "moonring_shard_clients" not in figures:
            continue
        figures["at"] = time.monotonic() - began
        seconds.append(figures)


def watch_until_gone(server, began, seconds, start):
    """Until those of the level that began at `start` are no clients any more: they would be part of the next level's load."""
    clients = lambda figures: figures["moonring_shard_clients"]
    usual_clients = clients([figures for figures in seconds if figures["at"] <= start][-1])
    for _ in range(GONE_S):
        if clients(seconds[-1]) <= usual_clients:
            return
        watch(server, began, seconds, 1)
    left = clients(seconds[-1]) - usual_clients
    print(f"{left:.0f} clients of a level are still there: the next level has more load than is said", file=sys.stderr, flush=True)


def rates(seconds, start, end):
    """Packets forwarded and resent a second, between two moments."""
    within = [figures for figures in seconds if start <= figures["at"] <= end]
    first, last = within[0], within[-1]
    elapsed = last["at"] - first["at"]
    per_s = lambda name: (last[name] - first[name]) / elapsed
    return per_s("moonring_packets_forwarded_total"), per_s("moonring_packets_resent_total")


def usual(seconds, start, end):
    """Packets forwarded a second before a level and after it: the median, as a second in which the machine stood still is no measure."""
    after = end + SETTLE_S
    spans = [[figures for figures in seconds if begin <= figures["at"] <= begin + REFERENCE_S] for begin in (start - REFERENCE_S, after - REFERENCE_S)]
    return statistics.median(rates(within, one["at"], next_one["at"])[0] for within in spans for one, next_one in zip(within, within[1:]))


def tell(asked, seconds, spans, base, probe):
    loss = lambda report, start, end: [s["loss_percent"] for s in report["seconds_log"] if start <= s["at_s"] <= end]
    print(f"the server has {asked.share:.0%} of a core; highest clean load: {asked.meetings} meetings of four")
    print(f"{'load':>6} {'usual':>9} {'forwarded':>10} {'sound lost %':>13} {'resent %':>9} {'meetings lost %':>16} {'back s':>7}")
    for level, start, end in spans:
        # The joins are within: only the first two seconds, in which next to nobody has come, are left out.
        forwarded, resent = rates(seconds, start + 2, end)
        highest_rate = usual(seconds, start, end)
        sound = statistics.mean(loss(probe, start, end))
        lost = statistics.mean(loss(base, start, end))
        print(f"{level:>6.0%} {highest_rate:>9.0f} {forwarded / highest_rate:>10.3f} {sound:>13.3f} {100 * resent / (forwarded + resent):>9.2f} "
              f"{lost:>16.3f} {back(base, end):>7}")
    if asked.json:
        asked.json.write_text(json.dumps({"seconds": seconds, "spans": spans, "base": base, "probe": probe}, indent=1))


def back(report, end):
    """Seconds until the meetings lose nothing."""
    after = [s for s in report["seconds_log"] if s["at_s"] > end]
    for n, second in enumerate(after[:SETTLE_S - QUIET_S]):
        if all(s["loss_percent"] < CLEAN_PERCENT for s in after[n:n + QUIET_S]):
            return f"{max(0, second['at_s'] - end - 1):.0f}"
    return "never"


if __name__ == "__main__":
    main()
