# SPDX-License-Identifier: Apache-2.0
"""Judges texts by JSON schemas, with Python's jsonschema.

Reads lines {"schema", "text"} from the file that is named and prints, for each
text that its schema does not hold for, its line's number and why. The last
line counts them: "N judged".
"""

import json
import sys

import jsonschema


def fail(constant):
    raise ValueError("%s is not JSON" % constant)


def complaint(schema, text):
    try:
        value = json.loads(text, parse_constant=fail)
    except ValueError as error:
        return "not JSON: %s" % error
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(value), None)
    return error and error.message


def main():
    number = 0
    with open(sys.argv[1]) as file:
        for number, line in enumerate(file, 1):
            case = json.loads(line)
            found = complaint(case["schema"], case["text"])
            if found:
                print("line %d: %s: %s" % (number, found, line.strip()))
    print("%d judged" % number)


main()
