"""A worker of Taskyard in Python: it runs the kinds `py.#`, one task at a time.

    pip install pika
    TASKYARD_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f WORKER_ID=py1 python worker.py
"""
import json, os, sys, threading, time, uuid
import pika

ME, POOL, BOOT = os.environ.get("WORKER_ID", "py1"), "default", str(uuid.uuid4())
holding = set()  # "id:attempt" of what this process was given and has not settled


def run(task, payload):
    """The work: returns the result. ValueError is for what trying again cannot mend."""
    if task.type == "py.upper":
        return payload.upper()
    if task.type == "py.sleep":
        time.sleep(float(payload))
        return payload
    if task.type == "py.fail" and task.headers["x-task-failures"] >= int(payload):
        return b"at last"
    if task.type == "py.fail":
        raise RuntimeError("fails, as it was told to")
    raise ValueError(f"no such kind: {task.type}")


def beat():
    body = {"id": ME, "boot": BOOT, "pool": POOL, "kinds": ["py.#"], "slots": 1, "holding": list(holding)}
    reports.basic_publish("taskyard.heartbeats", "", json.dumps(body))
    connection.call_later(2, beat)


def report(task, what, body=b"", **more):
    more |= {"attempt": task.headers["x-task-attempt"], "worker": ME}
    headers = {f"x-task-{name}": value for name, value in more.items()}
    properties = pika.BasicProperties(type=what, message_id=task.message_id, headers=headers, delivery_mode=2)
    # Returns when RabbitMQ has confirmed it; only then the delivery may be settled.
    reports.basic_publish("taskyard.outcomes", POOL, body, properties, mandatory=True)


def log(task, text):  # one line or more, for `taskyard logs`; from any thread
    connection.add_callback_threadsafe(lambda: report(task, "log", text.encode()))


def given(channel, method, task, payload):
    if method.redelivered:  # to a process of this name before this one: it may have run
        report(task, "returned", orphan=True)
        return channel.basic_nack(method.delivery_tag, requeue=False)
    holding.add(f"{task.message_id}:{task.headers['x-task-attempt']}")
    report(task, "started")
    threading.Thread(target=work, args=(channel, method.delivery_tag, task, payload), daemon=True).start()


def work(channel, tag, task, payload):  # on a thread of its own, so that heartbeats go on
    log(task, f"{task.type} begins")
    try:
        result, error = run(task, payload), None
    except Exception as problem:
        result, error = b"", problem
    connection.add_callback_threadsafe(lambda: settle(channel, tag, task, result, error))


def settle(channel, tag, task, result, error):
    if error is None:
        report(task, "succeeded", result)
        channel.basic_ack(tag)
    else:
        report(task, "failed", error=str(error), retryable=not isinstance(error, ValueError))
        channel.basic_nack(tag, requeue=False)  # the dispatcher gets it back: that copy is retried
    holding.discard(f"{task.message_id}:{task.headers['x-task-attempt']}")


try:
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["TASKYARD_AMQP_URL"]))
    reports = connection.channel()
    reports.confirm_delivery()
    beat()
    while True:
        try:
            inbox = connection.channel()
            inbox.basic_qos(prefetch_count=1)
            inbox.basic_consume(f"taskyard.worker.{ME}", given)
            print(f"{ME} is at work", flush=True)
            inbox.start_consuming()
        except pika.exceptions.ChannelClosedByBroker as closed:
            if closed.reply_code != 404:  # the dispatcher declares the queue at the first heartbeat
                raise
            connection.sleep(0.5)
except pika.exceptions.AMQPError as lost:  # another life: it returns what this one was given
    print(f"connection lost, starting again: {lost!r}", file=sys.stderr)
    time.sleep(1)
    os.execv(sys.executable, [sys.executable, *sys.argv])
