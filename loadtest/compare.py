#!/usr/bin/env python3
"""Loads several servers in turn, round after round, and prints what a forwarded packet costs each of them.

    cargo build --release --bin moonring -p moonring -p moonring-loadtest --bin moonring-loadtest
    loadtest/compare.py --rounds 5 --load 'webinar --subscribers 50' \\
        uring='target/release/moonring --io uring' mmsg='target/release/moonring --io mmsg'

Each server runs on the first processor and the load on the second one, so that both have one to themselves. Rounds are
interleaved: what disturbs the machine disturbs all alike. Printed are medians; `ns` is the processor time of the
server's shards per packet that came out of it, by the kernel's accounts, `all ns` that of its whole process. `ratio` is of
`ns`. Nothing but Python's library is needed.

`--path` says how packets get from one to the other, as it decides what a run of packets costs (GSO):

    loopback    runs arrive as they left, and the load takes them whole: the least there is
    no-gro      loopback, but the load takes each datagram alone, so that the kernel cuts the runs
    veth        two network namespaces, and a virtual card that cuts no runs, so that the kernel does it in software, as it
                does for cards that cannot; needs root and ethtool

Another SFU that speaks WHIP and WHEP stands beside them with `--peer NAME=URL=COMMAND` (loadtest/peers/README.md). It
has no shards, so `ratio` and `CPU %` are then those of whole processes, for all.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
LOADTEST = HERE.parent / "target/release/moonring-loadtest"
# Set in the server's namespace: the load's.
INSIDE = "COMPARE_LOAD_NAMESPACE"
SERVER_ADDRESS, LOAD_ADDRESS = "10.184.0.1", "10.184.0.2"
COLUMNS = ("ns", "all ns", "ratio", "packets/s", "lost %", "p50 ms", "p99 ms", "p99.9 ms", "CPU %", "load ns")


def main():
    asked = arguments()
    if asked.path == "veth" and INSIDE not in os.environ:
        sys.exit(in_namespaces())
    variants = [parts(server, "NAME=COMMAND") for server in asked.server]
    variants += [parts(peer, "NAME=URL=COMMAND") for peer in asked.peer]
    if not variants:
        sys.exit("no server is given")
    for load in asked.load:
        results = {name: [] for name, *_ in variants}
        for round_ in range(asked.rounds):
            for n, (name, *url, command) in enumerate(variants):
                said = f"{load}: round {round_ + 1} of {asked.rounds}, {name}"
                print(said, file=sys.stderr, flush=True)
                results[name].append(peer_run(asked, *url, command, load) if url else own_run(asked, n, command, load))
        table(asked, load, results, "" if asked.peer else "threads_")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server", nargs="*", metavar="NAME=COMMAND", help="moonring's name and how it is started")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL=COMMAND",
                        help="another server, at whip+http://host:port/{kind}/{room} or https; it gets no other flags")
    parser.add_argument("--load", action="append", required=True, help="arguments of `moonring-loadtest run`")
    parser.add_argument("--rounds", type=int, default=5, help="of each server")
    parser.add_argument("--duration-s", type=int, default=10, help="of each measurement")
    parser.add_argument("--path", choices=("loopback", "no-gro", "veth"), default="loopback", help="from server to load")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--loadtest", default=LOADTEST, help="the load test's program")
    return parser.parse_args()


def parts(text, form):
    """The parts of `text` between the first signs of equality, as many as `form` has."""
    found = text.split("=", form.count("="))
    if len(found) <= form.count("="):
        sys.exit(f"'{text}' is not {form}")
    return found


def own_run(asked, n, command, load):
    """Starts moonring, loads it, ends it. Its report."""
    port, host = 18080 + 10 * n, SERVER_ADDRESS if asked.path == "veth" else "127.0.0.1"
    with tempfile.TemporaryDirectory() as folder:
        own = ["--listen", f"{host}:{port}", "--admin-listen", f"127.0.0.1:{port + 1}", "--data-dir", folder,
               "--media-ip", host, "--shards", "1", "--scripts-dir", str(HERE / "scripts"), "--log-filter", "warn",
               "--clients-per-room", "10000", "--clients-max", "100000", "--rooms-max", "100000"]
        metrics = f"http://127.0.0.1:{port + 1}/metrics"
        ready = lambda: urllib.request.urlopen(metrics, timeout=1).read()
        return one_run(asked, [*shlex.split(command), *own], ready, f"wss://{host}:{port}/ws", load)


def peer_run(asked, url, command, load):
    """The same with another server, which is started as it is."""
    address = urlsplit(url.removeprefix("whip+"))
    if address.port is None:
        sys.exit(f"{url} names no port")
    ready = lambda: socket.create_connection((address.hostname, address.port), timeout=1).close()
    return one_run(asked, shlex.split(command), ready, url, load)


def one_run(asked, command, ready, url, load):
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        with subprocess.Popen(["taskset", "-c", str(asked.server_cpu), *command]) as process:
            try:
                wait_for(ready, process)
                run = ["taskset", "-c", str(asked.load_cpu), str(asked.loadtest), "run", *shlex.split(load),
                       "--url", url, "--insecure", "--duration-s", str(asked.duration_s), "--pid", str(process.pid),
                       "--quiet", "--json", str(report), *(["--no-gro"] if asked.path == "no-gro" else [])]
                if asked.path == "veth":
                    run = ["ip", "netns", "exec", os.environ[INSIDE], *run]
                # It fails when packets were lost; the report says so as well.
                subprocess.run(run, stdout=subprocess.DEVNULL, check=False)
            finally:
                process.terminate()
        # The file is there before anything is measured.
        text = report.read_text() if report.exists() else ""
        if not text:
            sys.exit(f"no report of: {shlex.join(run)}")
        return json.loads(text)


def in_namespaces():
    """Runs this program again in a namespace whose peer the load gets, with a link between them that segments in software."""
    if os.geteuid():
        sys.exit("--path veth needs root: run it with sudo")
    for program, package in (("ip", "iproute2"), ("ethtool", "ethtool")):
        if not shutil.which(program):
            sys.exit(f"--path veth needs {program}: apt install {package}")
    here, there = (f"compare-{os.getpid()}-{side}" for side in ("server", "load"))
    link = f"cmp{os.getpid() % 1_000_000}"
    ip = lambda *words: subprocess.run(["ip", *words], check=True)
    try:
        for name, address, end in ((here, SERVER_ADDRESS, "s"), (there, LOAD_ADDRESS, "l")):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            if end == "s":
                ip("-n", here, "link", "add", f"{link}s", "type", "veth", "peer", "name", f"{link}l")
            else:
                ip("-n", here, "link", "set", f"{link}l", "netns", there)
            ip("-n", name, "addr", "add", f"{address}/30", "dev", f"{link}{end}")
            ip("-n", name, "link", "set", f"{link}{end}", "up")
            subprocess.run(["ip", "netns", "exec", name, "ethtool", "-K", f"{link}{end}", "tx-udp-segmentation", "off"], check=True)
        again = ["ip", "netns", "exec", here, sys.executable, *sys.argv]
        return subprocess.run(again, env={**os.environ, INSIDE: there}).returncode
    finally:
        for name in (here, there):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def wait_for(ready, process):
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}: {shlex.join(process.args)}")
        try:
            return ready()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"it does not answer: {shlex.join(process.args)}")


def table(asked, load, results, compared):
    """`compared` begins the names of the figures that servers are compared by: of shards, or of whole processes."""
    print(f"\n{load} ({asked.path}, {os.uname().release}, medians of {len(next(iter(results.values())))} interleaved rounds)")
    print("".join(["server".ljust(14), *(column.rjust(11) for column in COLUMNS)]))
    first = None
    for name, reports in results.items():
        median = lambda get: statistics.median(get(report) for report in reports)
        cost = lambda figure: median(lambda r: r["server"][figure])
        ns = cost(f"{compared}ns_per_packet")
        first = first or ns
        shards = cost("threads_ns_per_packet")
        figures = (f"{shards:.0f}" if shards else "-", f"{cost('ns_per_packet'):.0f}", f"{ns / first:.2f}",
                   f"{median(lambda r: r['packets_out_per_s']):.0f}", f"{median(lambda r: r['loss_percent']):.3f}",
                   f"{median(lambda r: r['latency']['p50_ms']):.2f}", f"{median(lambda r: r['latency']['p99_ms']):.2f}",
                   f"{median(lambda r: r['latency']['p999_ms']):.2f}",
                   f"{cost(f'{compared}cpu_percent'):.0f}",
                   f"{median(lambda r: r['loadtest']['threads_ns_per_packet']):.0f}")
        print("".join([name.ljust(14), *(figure.rjust(11) for figure in figures)]), flush=True)


if __name__ == "__main__":
    main()
