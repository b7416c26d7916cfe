"""Dramatiq: see docs/peers.md for the settings and why."""

import sys
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import measure

backend = RedisBackend(url=measure.REDIS_URL)
broker = RabbitmqBroker(url=measure.AMQP_URL, confirm_delivery=True)
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=measure.NAME, store_results=True)
def echo(text):
    return text


class DramatiqPeer(measure.Peer):
    packages = ["dramatiq", "pika", "redis"]
    worker = [
        *[sys.executable, "-m", "dramatiq", "dramatiq_bench"],
        *["--processes", str(measure.CORES), "--threads", "8"],
    ]

    def submit(self, payloads):
        messages = measure.SUBMITTERS.map(echo.send, payloads)
        return [backend.build_message_key(message) for message in messages]

    def round_trips(self, payloads):
        trips = []
        for text in payloads:
            begun = time.monotonic()
            message = echo.send(text)
            result = message.get_result(block=True, timeout=measure.LIMIT_S * 1000)
            trips.append((time.monotonic() - begun, result))
        return trips

    def read(self, pipeline, key):
        # It keeps a result as a list of one, so that a reader can block.
        pipeline.lindex(key, 0)

    def decode(self, kept):
        return backend.unwrap_result(backend.encoder.decode(kept))


if __name__ == "__main__":
    measure.run(DramatiqPeer())
