#!/usr/bin/env python3
"""Makes tests/fixtures/tensorboard/events.bin with the tensorboard package (2.21): the records that
tests/test_formats.c builds, framed and serialised by the package. With --check FOLDER it reads an
event folder that mixt wrote with EventAccumulator and prints its scalars."""
import io
import os
import sys

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "tensorboard")


def make():
    os.makedirs(HERE, exist_ok=True)
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    values = [("loss/train", 2.5), ("load/\u00fc", -0.0), ("rate", 3e-4)]
    events = [
        Event(wall_time=1234567890.25, file_version="brain.Event:2"),
        Event(wall_time=1234567890.5, step=300, file_version="brain.Event:2"),
        Event(wall_time=1234567890.5, step=300, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=1234567891.0, step=300, summary=Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])),
        Event(wall_time=1234567892.0, step=2**40 + 5, summary=Summary(
            value=[Summary.Value(tag="x" * 200, simple_value=float("nan"))])),
        Event(wall_time=1234567893.0, step=0, summary=Summary()),
    ]
    for event in events:
        writer.write(event.SerializeToString())
    with open(os.path.join(HERE, "events.bin"), "wb") as file:
        file.write(stream.getvalue())
    print(len(stream.getvalue()), "bytes")


def check(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    for tag in sorted(accumulator.Tags()["scalars"]):
        print(tag, [(e.step, round(e.value, 6)) for e in accumulator.Scalars(tag)])


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1:2] == ["--check"] else make()
