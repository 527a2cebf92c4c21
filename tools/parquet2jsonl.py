#!/usr/bin/env python3
"""Parquet as records for `farseek data`: parquet2jsonl.py IN.parquet... OUT.jsonl [--text COLUMN | --messages COLUMN | --prompt COLUMN --answer COLUMN [--trace COLUMN]]

Needs pyarrow. Without options the columns text, messages, or prompt and answer are taken, those that there are; other columns stay out unless --keep
names them (with commas between). OUT appears when it is whole."""
import argparse
import json
import os
import pathlib
import sys

import pyarrow.parquet

KINDS = (("text",), ("messages",), ("prompt", "answer", "trace"))


def columns_of(schema, args):
    """{member: column} of the record kind that was asked for, or that the file has."""
    asked = {m: getattr(args, m) for kind in KINDS for m in kind if getattr(args, m)}
    for kind in KINDS:
        chosen = {m: asked.get(m, None if asked else m) for m in kind}
        chosen = {m: c for m, c in chosen.items() if c in schema.names}
        if all(m in chosen for m in kind if m != "trace"):
            return {**chosen, **{c: c for c in (args.keep or "").split(",") if c}}
    sys.exit(f"parquet2jsonl: no column for {' or '.join(asked.values()) or 'text, messages, or prompt and answer'}; there are {', '.join(schema.names)}")


def records(path, args):
    file = pyarrow.parquet.ParquetFile(path)
    columns = columns_of(file.schema_arrow, args)
    for batch in file.iter_batches(columns=sorted(set(columns.values()))):
        for row in batch.to_pylist():
            yield {member: row[column] for member, column in columns.items() if row[column] is not None}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+")
    p.add_argument("out")
    for name in ("text", "messages", "prompt", "answer", "trace", "keep"):
        p.add_argument(f"--{name}")
    args = p.parse_args()
    part, n = pathlib.Path(args.out + ".part"), 0
    try:
        with open(part, "w", encoding="utf-8") as out:
            for path in args.files:
                for record in records(path, args):
                    out.write(json.dumps(record, ensure_ascii=False) + "\n")
                    n += 1
        os.replace(part, args.out)
    finally:
        part.unlink(missing_ok=True)
    print(f"{args.out}: {n} records")


if __name__ == "__main__":
    main()
