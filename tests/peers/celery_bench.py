"""Celery: see docs/peers.md for the settings and why."""

import sys
import time

from celery import Celery

import measure

app = Celery("celery_bench", broker=measure.AMQP_URL, backend=measure.REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=64,
    task_default_queue=measure.NAME,
)


@app.task(name="echo")
def echo(text):
    return text


class CeleryPeer(measure.Peer):
    packages = ["celery", "kombu", "amqp", "redis"]
    worker = [
        *[sys.executable, "-m", "celery", "--app", "celery_bench", "worker"],
        *["--pool", "prefork", "--concurrency", str(measure.CORES), "--loglevel", "WARNING"],
        *["--without-gossip", "--without-mingle", "--without-heartbeat"],
    ]

    def submit(self, payloads):
        ids = measure.SUBMITTERS.map(lambda text: echo.delay(text).id, payloads)
        return [app.backend.get_key_for_task(id) for id in ids]

    def round_trips(self, payloads):
        trips = []
        for text in payloads:
            begun = time.monotonic()
            result = echo.delay(text).get(timeout=measure.LIMIT_S)
            trips.append((time.monotonic() - begun, result))
        return trips

    def decode(self, kept):
        return app.backend.decode_result(kept)["result"]


if __name__ == "__main__":
    measure.run(CeleryPeer())
