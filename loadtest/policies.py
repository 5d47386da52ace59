#!/usr/bin/env python3
"""What policies do to calls, to joins and to what lasts; one table for each.

    cargo build --release --workspace --bin moonring --bin moonring-loadtest
    loadtest/policies.py busy      # media of a meeting beside busy rooms
    loadtest/policies.py joins     # 500 joins at once, each decided by a service that takes 20 ms
    loadtest/policies.py store     # kill -9 in the middle of 1,000 metered rooms
    loadtest/policies.py record    # what it costs that rooms are recorded

busy: a meeting of four beside 0, 10, 30, 100 and 1,000 rooms, each with a timer every 10 ms that works for less than its room
may; interleaved, medians of the rounds. `p99 x` is relative to no busy rooms.
store: each room counts in sfu.store and tells this program what the store has answered. Then the server is killed and
started again: no room's count may be less than what was told.

record: the same meeting beside 30 rooms with an empty timer every 10 ms (each turn of it is two lines of a recording), which
are recorded in every second measurement.

The server runs on the first processor, load and services on the second. Nothing but Python's library is needed.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness import TARGET, Server, load

SERVICE = 18482
DECISION_S = 0.02


def main():
    asked = arguments()
    {"busy": busy, "joins": joins, "store": store, "record": record}[asked.what](asked)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("busy", "joins", "store", "record"))
    parser.add_argument("--rounds", type=int, default=5, help="of busy and record")
    parser.add_argument("--rooms", help="of busy: how many, with commas (0,10,30,100,1000); of store (1000) and record (30): how many")
    parser.add_argument("--loops", type=int, default=20_000, help="of busy: what each timer does")
    parser.add_argument("--duration-s", type=int, default=8, help="of each measurement")
    parser.add_argument("--clients", type=int, default=500, help="of joins")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder with moonring and moonring-loadtest")
    return parser.parse_args()


def serve(asked, data, with_service=False, more=()):
    """A server with the policies that are loaded here."""
    settings = [f"loops={asked.loops}", "period_ms=1000"]
    flags = ["--http-allow", f"127.0.0.1:{SERVICE}", *more]
    if with_service:
        settings.append(f"service=http://127.0.0.1:{SERVICE}")
        flags += ["--webhook-url", f"http://127.0.0.1:{SERVICE}/told", "--webhook-secret", "whsec_bW9vbnJpbmc="]
    for setting in settings:
        flags += ["--script-config", setting]
    return Server(asked.target, data, "scripts/policies", flags)


class Service(ThreadingHTTPServer):
    """Decides on joins, and takes webhooks."""

    request_queue_size = 1024
    daemon_threads = True

    def __init__(self):
        self.told, self.asked = {}, 0
        super().__init__(("127.0.0.1", SERVICE), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(DECISION_S)
        self.server.asked += 1
        self.answer()

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if message.get("type") == "counted":
            data = message["data"]
            room = data["room"]
            self.server.told[room] = max(self.server.told.get(room, 0), data["sum"])
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def busy(asked):
    counts = [int(n) for n in (asked.rooms or "0,10,30,100,1000").split(",")]
    cases = [(n, kind) for n in counts for kind in (("busy", "empty") if n else ("busy",))]
    results = {case: [] for case in cases}
    for round_ in range(asked.rounds):
        for case in cases:
            print(f"round {round_ + 1} of {asked.rounds}, {case}", file=sys.stderr, flush=True)
            results[case].append(busy_run(asked, *case))
    median = lambda case, figure: statistics.median(figure(report) for report in results[case])
    p99 = lambda report: report["latency"]["p99_ms"]
    base = median((counts[0], "busy"), p99)
    print(f"a meeting of four beside busy rooms (medians of {asked.rounds} interleaved rounds)")
    print(f"{'rooms':>6} {'timers':>8} {'p50 ms':>8} {'p99 ms':>8} {'p99 x':>7} {'lost %':>8} {'join p99 ms':>12} {'shard %':>8}")
    for case in cases:
        n, kind = case
        print(f"{n:>6} {'work' if kind == 'busy' else 'empty':>8} {median(case, lambda r: r['latency']['p50_ms']):>8.2f} "
              f"{median(case, p99):>8.2f} {median(case, p99) / base:>7.2f} {median(case, lambda r: r['loss_percent']):>8.3f} "
              f"{median(case, lambda r: r['join']['p99_ms']):>12.1f} "
              f"{median(case, lambda r: r['server']['threads_cpu_percent']):>8.1f}")


def record(asked):
    rooms, results = int(asked.rooms or 30), {False: [], True: []}
    for round_ in range(asked.rounds):
        for is_recorded in results:
            print(f"round {round_ + 1} of {asked.rounds}, recorded: {is_recorded}", file=sys.stderr, flush=True)
            results[is_recorded].append(busy_run(asked, rooms, "empty", is_recorded))
    print(f"a meeting of four beside {rooms} rooms with an empty timer every 10 ms (medians of {asked.rounds} interleaved rounds)")
    print(f"{'recorded':>8} {'p50 ms':>8} {'p99 ms':>8} {'lost %':>8} {'shard %':>8} {'KiB':>8}")
    for is_recorded, reports in results.items():
        median = lambda figure: statistics.median(figure(report) for report in reports)
        print(f"{'yes' if is_recorded else 'no':>8} {median(lambda r: r['latency']['p50_ms']):>8.2f} "
              f"{median(lambda r: r['latency']['p99_ms']):>8.2f} {median(lambda r: r['loss_percent']):>8.3f} "
              f"{median(lambda r: r['server']['threads_cpu_percent']):>8.1f} {median(lambda r: r['recorded_kib']):>8.0f}")


def busy_run(asked, rooms, kind, is_recorded=False):
    more = ["--record", f"{kind}*", "--record-room-kib", "65536"] if is_recorded else []
    with tempfile.TemporaryDirectory() as data:
        server = serve(asked, data, more=more)
        others = None
        try:
            if rooms:
                seconds = str(asked.duration_s + 60)
                others, _ = load(asked.target, "rooms", "--rooms", str(rooms), "--clients", "1", "--idle", "--room", kind, "--joins-per-s",
                              "500", "--duration-s", seconds, wait=False)
                server.wait_for_clients(rooms)
            report = load(asked.target, "meeting", "--clients", "4", "--with-audio", "--bitrate-kbps", "500", "--room", "meeting",
                          "--duration-s", str(asked.duration_s), "--pid", str(server.process.pid))
            report["recorded_kib"] = sum(file.stat().st_size for file in Path(data).glob("recordings/*")) / 1024
            return report
        finally:
            if others:
                others.kill()
                others.wait()
            server.end(signal.SIGKILL)


def joins(asked):
    service = Service()
    with tempfile.TemporaryDirectory() as data:
        server = serve(asked, data, True)
        try:
            report = load(asked.target, "join-storm", "--publishers", "1", "--subscribers", str(asked.clients), "--no-video", "--room",
                          "asked", "--duration-s", str(asked.duration_s))
        finally:
            server.end()
    join = report["join"]
    print(f"{report['connected']} of {report['clients']} in, {service.asked} decisions of {DECISION_S * 1000:.0f} ms, "
          f"join p50 {join['p50_ms']:.0f} ms, p99 {join['p99_ms']:.0f} ms, max {join['max_ms']:.0f} ms")
    for reason, count in report["failures"].items():
        print(f"failed: {count} x {reason}")
    sys.exit(report["connected"] < report["clients"])


def store(asked):
    rooms, service = int(asked.rooms or 1000), Service()
    with tempfile.TemporaryDirectory() as data:
        server = serve(asked, data, True)
        others, _ = load(asked.target, "rooms", "--rooms", str(rooms), "--clients", "1", "--idle", "--room", "metered", "--joins-per-s", "500",
                      "--duration-s", "120", wait=False)
        server.wait_for_clients(rooms)
        before, busy_before, began = server.metrics(), shard_seconds(server), time.monotonic()
        time.sleep(asked.duration_s)
        after, busy_after, elapsed = server.metrics(), shard_seconds(server), time.monotonic() - began
        server.end(signal.SIGKILL)
        told = dict(service.told)
        others.kill()
        others.wait()
        server = serve(asked, data, True)
        reader, _ = load(asked.target, "rooms", "--rooms", "1", "--clients", "1", "--idle", "--room", "reader", "--duration-s", "600", wait=False)
        try:
            server.wait_for_clients(1)
            kept = {room: json.loads(server.ask("rooms/reader/call", {"room": room}) or "null") or 0 for room in told}
        finally:
            reader.kill()
            server.end(signal.SIGKILL)
    lost = {room: (sum_, kept[room]) for room, sum_ in told.items() if kept[room] < sum_}
    per_s = lambda name: (after.get(name, 0) - before.get(name, 0)) / elapsed
    print(f"{rooms} rooms, {per_s('moonring_store_operations_total'):.0f} operations a second in "
          f"{per_s('moonring_store_commits_total'):.0f} commits a second, {per_s('moonring_store_failed_total'):.0f} failed; "
          f"the shard took {100 * (busy_after - busy_before) / elapsed:.1f} % of its core")
    print(f"kill -9: {len(told)} rooms had been told of {sum(told.values())} counts; {len(lost)} rooms have less after the restart, "
          f"{sum(kept[room] - told[room] for room in told if room not in lost)} counts more that nobody had been told of")
    for room, (sum_, found) in list(lost.items())[:10]:
        print(f"LOST: {room} was told of {sum_} and has {found}")
    sys.exit(bool(lost) or not told)


def shard_seconds(server):
    """Processor time of the server's shard."""
    ticks = 0
    for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
        if (thread / "comm").read_text().startswith("shard"):
            ticks += sum(int(field) for field in (thread / "stat").read_text().rsplit(")", 1)[1].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
