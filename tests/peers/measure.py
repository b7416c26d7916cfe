"""What the programs of the Python peers share: the measures, and the report to `taskyard-bench peers`.

    python celery_bench.py single|drain|idle TASKS

The environment says the rest: BENCH_AMQP_URL and BENCH_REDIS_URL (an empty database), BENCH_NAME (of
queues and payloads, new for each run), BENCH_REPORT (the file to write).
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis

AMQP_URL = os.environ["BENCH_AMQP_URL"]
REDIS_URL = os.environ["BENCH_REDIS_URL"]
NAME = os.environ["BENCH_NAME"]
CORES = os.cpu_count()

PAYLOAD_BYTES = 100
# How often Redis is asked whether the last task is done: as often as for Taskyard.
LOOK_EVERY_S = 0.005
# What is not there by then is lost.
LIMIT_S = 300
KEYS_AT_ONCE = 1000
# Threads that submit where a confirm is waited for by blocking; they keep their connections.
SUBMITTERS = ThreadPoolExecutor(8)
# Some tasks of those at the head of a backlog are watched to see the first one finish.
HEAD = 64


class Peer:
    """What a peer does in its own way."""

    packages = []  # whose versions are reported
    worker = []  # the command that starts its workers

    def submit(self, payloads):
        """Submits, each confirmed; returns the keys in Redis where the results will be."""
        raise NotImplementedError

    def round_trips(self, payloads):
        """Submits one at a time and waits for its result: pairs of seconds and result."""
        raise NotImplementedError

    def read(self, pipeline, key):
        """Asks for what is kept under a key."""
        pipeline.get(key)

    def decode(self, kept):
        """The result in what was kept."""
        raise NotImplementedError

    def close(self):
        """Ends its connections."""


class Workers:
    """The peer's workers, as long as the block runs."""

    def __init__(self, peer):
        self.command = peer.worker

    def __enter__(self):
        self.process = subprocess.Popen(self.command, cwd=Path(__file__).parent)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait(self, condition):
        """Whether it holds within the limit."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            if self.process.poll() is not None:
                sys.exit(f"the workers have ended with {self.process.returncode}")
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_S)
        return True


class Results:
    """The results of some tasks in Redis."""

    def __init__(self, peer, payloads, keys):
        self.peer, self.payloads, self.keys = peer, payloads, keys
        self.store = redis.Redis.from_url(REDIS_URL)

    def count(self, keys):
        return sum(self.store.exists(*chunk) for chunk in chunks(keys))

    def wait_for_all(self, workers):
        """The last one first: to ask for all of them all the time would keep a core busy."""
        if workers.wait(lambda: self.store.exists(self.keys[-1])):
            for chunk in chunks(self.keys):
                if not workers.wait(lambda: self.store.exists(*chunk) == len(chunk)):
                    break

    def faults(self):
        """How many are missing, and how many are not what was sent."""
        missing = wrong = 0
        for keys, payloads in zip(chunks(self.keys), chunks(self.payloads)):
            with self.store.pipeline(transaction=False) as pipeline:
                for key in keys:
                    self.peer.read(pipeline, key)
                for kept, payload in zip(pipeline.execute(), payloads):
                    missing += kept is None
                    wrong += kept is not None and self.peer.decode(kept) != payload
        return {"missing": missing, "wrong": wrong}


def chunks(items):
    return [items[at : at + KEYS_AT_ONCE] for at in range(0, len(items), KEYS_AT_ONCE)]


def payloads(count, name=NAME):
    return [f"{name}-{number}".ljust(PAYLOAD_BYTES, "x") for number in range(count)]


def warm_up(peer, workers, count):
    """Connections, queues, all worker processes."""
    sent = payloads(max(count // 10, 100), f"{NAME}-warm")
    results = Results(peer, sent, peer.submit(sent))
    results.wait_for_all(workers)
    faults = results.faults()
    if any(faults.values()):
        sys.exit(f"the warm-up of {len(sent)} tasks went wrong: {faults}")


def single(peer, count):
    """Producer and workers at once: first submit to last result."""
    sent = payloads(count)
    with Workers(peer) as workers:
        warm_up(peer, workers, count)
        begun = time.monotonic()
        results = Results(peer, sent, peer.submit(sent))
        results.wait_for_all(workers)
        seconds = time.monotonic() - begun
    return {"tasks": count, "seconds": seconds, **results.faults()}


def drain(peer, count):
    """A backlog: first result to last, so the start of the workers is not counted."""
    sent = payloads(count)
    results = Results(peer, sent, peer.submit(sent))
    with Workers(peer) as workers:
        workers.wait(lambda: results.store.exists(*results.keys[:HEAD]))
        begun, before = time.monotonic(), results.count(results.keys)
        results.wait_for_all(workers)
        seconds = time.monotonic() - begun
    return {"tasks": count - before, "seconds": seconds, **results.faults()}


def idle(peer, count):
    """One task at a time: submit to result."""
    sent = payloads(count)
    with Workers(peer) as workers:
        warm_up(peer, workers, count)
        trips = peer.round_trips(sent)
    wrong = sum(result != payload for (_, result), payload in zip(trips, sent))
    took_ms = [seconds * 1000 for seconds, _ in trips]
    return {"took_ms": took_ms, "missing": count - len(trips), "wrong": wrong}


def run(peer):
    measure, count = sys.argv[1], int(sys.argv[2])
    report = {"single": single, "drain": drain, "idle": idle}[measure](peer, count)
    peer.close()
    report["versions"] = {name: importlib.metadata.version(name) for name in peer.packages}
    Path(os.environ["BENCH_REPORT"]).write_text(json.dumps(report))
