"""Taskiq: see docs/peers.md for the settings and why."""

import asyncio
import sys
import time

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_redis import RedisAsyncResultBackend

import measure

# Submissions under way at once, and tasks at once in a worker process.
AT_ONCE = 200

backend = RedisAsyncResultBackend(redis_url=measure.REDIS_URL)
broker = AioPikaBroker(
    url=measure.AMQP_URL,
    qos=AT_ONCE,
    exchange=Exchange(name=measure.NAME),
    task_queues=[Queue(name=measure.NAME)],
    dead_letter_queue=Queue(name=f"{measure.NAME}.dead"),
).with_result_backend(backend)


# By default the name comes from the path of this file, which the workers see otherwise.
@broker.task(task_name="echo")
async def echo(text: str) -> str:
    return text


class TaskiqPeer(measure.Peer):
    packages = ["taskiq", "taskiq-aio-pika", "aio-pika", "taskiq-redis"]
    worker = [
        *[sys.executable, "-m", "taskiq", "worker", "taskiq_bench:broker"],
        *["--workers", str(measure.CORES), "--max-async-tasks", str(AT_ONCE)],
        *["--ack-type", "when_saved", "--log-level", "WARNING"],
    ]

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(broker.startup())

    def submit(self, payloads):
        return self.loop.run_until_complete(self.submit_all(payloads))

    async def submit_all(self, payloads):
        keys = [None] * len(payloads)
        numbered = iter(enumerate(payloads))

        async def submitter():
            for number, text in numbered:
                keys[number] = (await echo.kiq(text)).task_id

        await asyncio.gather(*[submitter() for _ in range(AT_ONCE)])
        return keys

    def round_trips(self, payloads):
        return self.loop.run_until_complete(self.trip_by_trip(payloads))

    async def trip_by_trip(self, payloads):
        trips = []
        for text in payloads:
            begun = time.monotonic()
            task = await echo.kiq(text)
            result = await task.wait_result(check_interval=0.001, timeout=measure.LIMIT_S)
            trips.append((time.monotonic() - begun, result.return_value))
        return trips

    def close(self):
        self.loop.run_until_complete(broker.shutdown())

    def decode(self, kept):
        return backend.serializer.loadb(kept)["return_value"]


if __name__ == "__main__":
    measure.run(TaskiqPeer())
