"""What the programs beside this file share: a server on the first processor, the load test on the second, metrics."""

import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "target/release"
PORT, ADMIN = 18480, 18481
SECRET = "moonring"


class Server:
    """moonring, with the policies of a folder beside this file."""

    def __init__(self, target, data, scripts="scripts", flags=()):
        command = ["taskset", "-c", "0", str(target / "moonring"), "--listen", f"127.0.0.1:{PORT}", "--admin-listen",
                   f"127.0.0.1:{ADMIN}", "--media-ip", "127.0.0.1", "--data-dir", data, "--shards", "1", "--scripts-dir",
                   str(HERE / scripts), "--log-filter", "error", "--rooms-max", "20000", "--clients-per-room", "2000",
                   "--rooms-per-address", "0", "--clients-per-address", "0", *flags]
        self.process = subprocess.Popen(command)
        for _ in range(300):
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}")
            try:
                self.ask("metrics")
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("the server does not answer")

    def ask(self, path, body=None):
        """What an admin page answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{ADMIN}/{path}", data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=10).read().decode()

    def metrics(self):
        """The metrics by name, without their labels."""
        lines = (line.rsplit(" ", 1) for line in self.ask("metrics").splitlines() if not line.startswith("#"))
        return {name.split("{")[0]: float(value) for name, value in lines}

    def wait_for_clients(self, count):
        for _ in range(600):
            if self.metrics().get("moonring_shard_clients", 0) >= count:
                return
            time.sleep(0.1)
        sys.exit(f"not all of {count} clients have come")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


def load(target, *arguments, wait=True):
    """Runs the load test: its report; or, without waiting, its process and the report's path."""
    report = Path(tempfile.mkdtemp(), "report.json")
    command = ["taskset", "-c", "1", str(target / "moonring-loadtest"), "run", *arguments, "--url", f"wss://127.0.0.1:{PORT}/ws",
               "--token", SECRET, "--quiet", "--json", str(report)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not wait:
        return process, report
    process.wait()
    if not report.exists():
        sys.exit(f"no report of: {' '.join(command)}")
    return json.loads(report.read_text())
