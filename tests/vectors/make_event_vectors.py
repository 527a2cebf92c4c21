#!/usr/bin/env python3
"""events.tfevents: what TensorBoard's own writer makes of two events: make_event_vectors.py OUT"""
import sys

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

with open(sys.argv[1], "wb") as f:
    w = RecordWriter(f)
    w.write(Event(wall_time=1234.5, file_version="brain.Event:2").SerializeToString())
    for step, values in ((7, dict(loss=1.25)), (300, {"loss": -0.1, "reward/format": 1e30})):
        w.write(Event(wall_time=1235.25 + step, step=step, summary=Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])).SerializeToString())
    w.flush()
