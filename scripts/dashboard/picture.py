"""Runs two sidecars under a Prometheus, asks it what the panels of a Grafana dashboard ask, and draws the answers.

    picture.py PROGRAMS DASHBOARD.json PICTURE.svg

Time is compressed: the sidecars refresh every five seconds instead of minutes, and a range of 15m in a query is 15s
in the picture. Every query is also put to Prometheus as it stands in the dashboard.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "snowkey", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 13})
from matplotlib import pyplot  # noqa: E402

KEY, PASSPHRASE = "/demo/key", "/demo/passphrase"
INTERVAL = "5s"  # where a task has 5m
SECONDS = 150
TASKS = ["task-1", "task-2"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, true, within=30):
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"dashboard: not within {within} s: {what}")
        time.sleep(0.1)


class Gate:
    """The way from the sidecars to SSM, which can be closed: then connections are refused."""

    def __init__(self, to):
        self.to, self.port, self.listener = to, free_port(), None

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(a, b, listener), daemon=True).start()

    @staticmethod
    def _pass(a, b, listener):
        try:
            while (data := a.recv(65536)) and listener.fileno() >= 0:
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Processes(list):
    def start(self, log, *command, **environ):
        with open(log, "w") as f:
            env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ}
            self.append(subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT, env=env))
        return self[-1]

    def stop(self):
        for p in reversed(self):
            p.terminate()
        for p in reversed(self):
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()


def get(url, **query):
    try:
        with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}" if query else url, timeout=10) as r:
            return r.read()
    except urllib.error.HTTPError as e:
        raise SystemExit(f"dashboard: {query or url}: {e.read().decode()}") from e


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=1).close()
        return True
    except OSError:
        return False


def read_keys(path):
    """Reads the key at the sidecar's socket each second until that is gone."""
    while path.exists():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            while s.recv(65536):
                pass
        time.sleep(1)


def store(ssm, value):
    """Stores what is no key, as somebody does who pastes the wrong thing. Local SSM checks no signature."""
    body = {"Name": KEY, "Value": value, "Type": "SecureString", "Overwrite": True}
    urllib.request.urlopen(urllib.request.Request(
        f"http://127.0.0.1:{ssm}", json.dumps(body).encode(),
        {"X-Amz-Target": "AmazonSSM.PutParameter", "Content-Type": "application/x-amz-json-1.1",
         "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/ssm/aws4_request, SignedHeaders=host, Signature=0"},
    ), timeout=10).close()


def run(programs, work, processes):
    """Gives the address of a Prometheus that has seen it all, and when it began and what happened."""
    ssm, prometheus = free_port(), free_port()
    cloud = processes.start(work / "localcloud.log", str(programs / "localcloud"), f"-ssm=127.0.0.1:{ssm}",
                            "-snowflake=127.0.0.1:0", f"-key-parameter={KEY}", f"-passphrase-parameter={PASSPHRASE}")
    until("local SSM answers", lambda: "snowflake http" in (work / "localcloud.log").read_text())
    gate = Gate(ssm)
    gate.open()
    targets = {}
    for task in TASKS:
        targets[task] = f"127.0.0.1:{free_port()}"
        (work / task).mkdir()
        processes.start(
            work / f"{task}.log", str(programs / "sidecar"), "run", f"--dir={work / task}", f"--key-parameter={KEY}",
            f"--passphrase-parameter={PASSPHRASE}", f"--interval={INTERVAL}", f"--metrics-addr={targets[task]}", "--serve=der",
            AWS_REGION="us-east-1", AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local",
            AWS_ENDPOINT_URL_SSM=f"http://127.0.0.1:{gate.port}")
        until(f"{task} is ready", lambda: answers(f"http://{targets[task]}/readyz"))
        threading.Thread(target=read_keys, args=(work / task / "rsa_key.der.sock",), daemon=True).start()
    lint = subprocess.run(["promtool", "check", "metrics"], input=get(f"http://{targets[TASKS[0]]}/metrics"), capture_output=True)
    if lint.returncode or lint.stderr:
        raise SystemExit(f"dashboard: promtool: {lint.stderr.decode()}")

    scrapes = [{"targets": [address], "labels": {"instance": task}} for task, address in targets.items()]
    (work / "prometheus.yml").write_text(json.dumps({  # YAML is a superset of it
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "snowkey", "static_configs": scrapes}]}))
    processes.start(work / "prometheus.log", "prometheus", f"--config.file={work}/prometheus.yml",
                    f"--storage.tsdb.path={work}/data", f"--web.listen-address=127.0.0.1:{prometheus}")
    api = f"http://127.0.0.1:{prometheus}"
    until("Prometheus is ready", lambda: answers(f"{api}/-/ready"))

    began, events = time.time(), []

    def at(second, what, do):
        time.sleep(max(0, began + second - time.time()))
        do()
        events.append((time.time() - began, what))
        print(f"dashboard: {second} s: {what}", flush=True)

    at(25, "a new key", lambda: cloud.send_signal(signal.SIGHUP))
    at(50, "SSM refuses connections", gate.close)
    at(80, "SSM is back", gate.open)
    at(105, "what is stored is no key", lambda: store(ssm, "not a key"))
    at(120, "a new key", lambda: cloud.send_signal(signal.SIGHUP))
    time.sleep(max(0, began + SECONDS - time.time()))
    return api, began, events


def legend(form, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), form).strip()


def ask(api, began, target):
    """The series of one target: by its label, the seconds and values."""
    expr = target["expr"]
    if json.loads(get(f"{api}/api/v1/query", query=expr))["data"]["result"] == []:
        raise SystemExit(f"dashboard: no data: {expr}")
    compressed = re.sub(r"\[15m\]", "[15s]", expr)
    result = json.loads(get(f"{api}/api/v1/query_range", query=compressed, start=began, end=began + SECONDS, step=1))
    return {legend(target["legendFormat"], s["metric"]): [(float(t) - began, float(v)) for t, v in s["values"]]
            for s in result["data"]["result"]}


def expect(panels):
    """What happened has to be in the picture."""
    top = {name: max(v for _, v in values) for series in panels.values() for name, values in series.items()}
    since = max(v for values in panels["Time since the last refresh that succeeded"].values() for _, v in values)
    ages = panels["Age of the key"]["task-1"]
    for what, true in {
        "an outage of 30 s": since > 25,
        "refreshes that failed by `network`": top["network"] >= 2,
        "refreshes that succeeded": top["ok"] >= 4,
        "reads of the key": top["reads: ok"] >= 4,
        "keys refused as unreadable": top["refused: unreadable_key"] >= 2,
        "keys published": top["published"] >= 2,
        "a key that became younger twice": sum(b < a - 5 for (_, a), (_, b) in zip(ages, ages[1:])) == 2,
    }.items():
        if not true:
            raise SystemExit(f"dashboard: the picture would not show {what}")


def draw(dashboard, panels, events, picture):
    grid = [p["gridPos"] for p in dashboard["panels"]]
    rows = sorted({g["y"] for g in grid})
    figure = pyplot.figure(figsize=(12, 3.4 * len(rows)), layout="constrained")
    spec = figure.add_gridspec(len(rows), 24)
    for panel, g in zip(dashboard["panels"], grid):
        axes = figure.add_subplot(spec[rows.index(g["y"]), g["x"]:g["x"] + g["w"]])
        axes.set_title(panel["title"], loc="left", fontsize=14, fontweight="bold")
        for name, values in sorted(panels[panel["title"]].items()):
            if all(v == 0 for _, v in values) and len(panels[panel["title"]]) > 2:
                continue  # Grafana draws these, too, on the axis
            axes.plot([round(t, 1) for t, _ in values], [round(v, 2) for _, v in values], label=name, linewidth=2)
        for second, _ in events:
            axes.axvline(second, color="0.5", linewidth=1.2, linestyle=":")
        axes.set_xlim(0, SECONDS)
        axes.set_ylim(0, 1.45 * max(v for values in panels[panel["title"]].values() for _, v in values))  # above: the legend
        axes.set_xlabel("seconds")
        if panel["fieldConfig"]["defaults"]["unit"] == "s":
            axes.set_ylabel("s")
        axes.grid(axis="y", color="0.85", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=11.5, loc="upper left", ncols=2)
    happened = "Dotted: " + "; ".join(f"{second:.0f} s {what}" for second, what in events) + "."
    figure.text(0.5, -0.01, happened + "\nDrawn from Prometheus's answers to the dashboard's queries, in compressed time. "
                "Not a screenshot of Grafana.", ha="center", va="top", fontsize=12, color="0.2")
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})


def main():
    programs, dashboard, picture = Path(sys.argv[1]).resolve(), json.loads(Path(sys.argv[2]).read_text()), sys.argv[3]
    processes = Processes()
    with tempfile.TemporaryDirectory(prefix="snowkey-dashboard-") as work:
        try:
            api, began, events = run(programs, Path(work), processes)
            panels = {}
            for panel in dashboard["panels"]:
                series = panels[panel["title"]] = {}
                for target in panel["targets"]:
                    series.update(ask(api, began, target))
        finally:
            processes.stop()
    expect(panels)
    draw(dashboard, panels, events, picture)
    print(f"dashboard: {len(panels)} panels, every query has data: {picture}")


if __name__ == "__main__":
    main()
