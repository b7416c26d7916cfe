"""Submits a task and waits for its end: all that a client needs is AMQP 0-9-1.

    pip install pika
    TASKYARD_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python submit.py echo hello
"""
import os
import sys
import uuid

import pika

if len(sys.argv) != 3:
    sys.exit("usage: python submit.py KIND PAYLOAD")
kind, payload = sys.argv[1], sys.argv[2].encode()
connection = pika.BlockingConnection(pika.URLParameters(os.environ["TASKYARD_AMQP_URL"]))
channel = connection.channel()
# With confirms and `mandatory`, a task is accepted once basic_publish has returned.
channel.confirm_delivery()
answers = channel.queue_declare("", exclusive=True).method.queue
# Whoever does not know whether it was accepted submits it again under the same id: it runs once.
task_id = str(uuid.uuid4())
properties = pika.BasicProperties(
    message_id=task_id, delivery_mode=2, reply_to=answers,
    headers={"x-task-max-attempts": 3, "x-task-backoff": "exponential:100:5000"},
)
channel.basic_publish("taskyard.tasks", kind, payload, properties, mandatory=True)

for _, answer, result in channel.consume(answers, auto_ack=True):
    print(answer.message_id, answer.type, answer.headers.get("x-task-error", ""))
    sys.stdout.flush()
    sys.stdout.buffer.write(result + b"\n")
    sys.exit(0 if answer.type == "succeeded" else 1)
