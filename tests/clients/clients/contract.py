"""The client's side of the contract (README), for clients in Python. Only the standard library."""
import json
import os
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urljoin

REPORT_S = 0.1
HTTP_TIMEOUT_S = 15
SAMPLES_20_MS = 960


def say(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class Contract:
    """What the driver wants (`options`), what it is told (`count`), and whether frames may be sent (`running`)."""

    def __init__(self):
        self.options = json.loads(sys.argv[-1])
        self.running = threading.Event()
        self.running.set()
        self.stopped = threading.Event()
        self.resource = None
        self._counts = {"video": 0, "audio": 0}
        self._lock = threading.Lock()

    def __getattr__(self, name):
        return self.options[name]

    @property
    def publishes(self):
        return self.direction == "publish"

    def count(self, kind, number=1):
        with self._lock:
            self._counts[kind] += number

    def connected(self, version):
        say(state="connected", version=version)

    def obey(self):
        """Starts to report and to listen."""
        threading.Thread(target=self._report, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def _report(self):
        while not self.stopped.wait(REPORT_S):
            with self._lock:
                say(**self._counts)

    def _listen(self):
        for line in sys.stdin:
            word = line.strip()
            if word == "hold":
                self.running.clear()
            elif word == "run":
                self.running.set()
            elif word == "stop":
                break
        self.running.set()
        self.stopped.set()

    def post(self, offer):
        """Posts the offer, returns the answer."""
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url, offer.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as response:
                self.resource = urljoin(self.url, response.headers["Location"])
                answer = response.read().decode()
        except urllib.error.HTTPError as error:
            fail(f"POST {self.url}: {error.code} {error.read().decode().strip()}")
        if os.environ.get("CLIENTS_SDP"):
            print(f"{offer}\n----\n{answer}", file=sys.stderr)
        if os.environ.get("CLIENTS_OVER_TCP"):
            lines = answer.splitlines(keepends=True)
            answer = "".join(line for line in lines if not (line.startswith("a=candidate:") and " udp " in line))
        return answer

    def leave(self):
        if self.resource:
            headers = {"Authorization": f"Bearer {self.token}"}
            request = urllib.request.Request(self.resource, headers=headers, method="DELETE")
            urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S).close()


def _uncaught(kind, error, trace):
    sys.__excepthook__(kind, error, trace)
    fail(f"{kind.__name__}: {error}")


sys.excepthook = _uncaught


def fail(reason):
    """Ends with the reason."""
    say(error=str(reason))
    os._exit(1)
