#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What transformers' apply_chat_template makes of every template and talk.

    venv/bin/pip install transformers==5.17.0 jinja2==3.1.6
    TZ=UTC venv/bin/python tests/golden/make_chat_digests.py

Reads tests/common/text/templates/*.jinja, written for the test in the style of
published ones, and conversations.json beside them. Writes digests.json: for
each template one 64-bit digest of each rendered conversation, or, where it
fails, "error" and what raise_exception was told.
"""
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

DATA = (pathlib.Path(__file__).resolve().parent.parent /
        "common/text/templates")


def digest(text):
    """FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return f"{value:016x}"


def main():
    data = json.loads((DATA / "conversations.json").read_text("utf-8"))

    class Now(datetime.datetime):

        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(data["now_unix_seconds"], tz)

    chat_template_utils.datetime = Now
    digests = {}
    errors = 0
    for path in sorted(DATA.glob("*.jinja")):
        source = path.read_text("utf-8")
        digests[path.stem] = []
        for talk in data["conversations"]:
            try:
                rendered, _ = chat_template_utils.render_jinja_template(
                    [talk["messages"]],
                    tools=talk.get("tools"),
                    documents=talk.get("documents"),
                    chat_template=source,
                    continue_final_message=talk.get(
                        "continue_final_message", False),
                    add_generation_prompt=talk["add_generation_prompt"],
                    **data["special_tokens"],
                    **talk.get("kwargs", {}))
                # A template that prints a list of parts is not given one.
                prints_parts = "[{'type'" in rendered[0]
                digests[path.stem].append(
                    "skip" if prints_parts else digest(rendered[0]))
            except jinja2.exceptions.UndefinedError:
                digests[path.stem].append("error")
            except jinja2.exceptions.TemplateError as error:
                digests[path.stem].append(f"error {error}")
            except (TypeError, ValueError):
                digests[path.stem].append("error")
            errors += digests[path.stem][-1].startswith("error")
    lines = [f' {json.dumps(n)}: {json.dumps(d, separators=(",", ":"))}'
             for n, d in digests.items()]
    (DATA / "digests.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(digests), "templates,", len(data["conversations"]),
          "conversations,", errors, "errors")


if __name__ == "__main__":
    main()
