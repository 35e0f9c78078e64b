"""The function of all languages, in Python; README.md beside has its verbs."""

import os
import time

invocations = 0


class Refused(Exception):
    pass


def handler(event, context):
    global invocations
    invocations += 1
    verb = event.get("verb")
    if verb == "fail":
        raise Refused("refused by verb")
    if verb == "exit":
        os._exit(3)
    if verb == "sleep":
        time.sleep(60)
    if verb == "describe":
        return describe(context)
    return event


def describe(context):
    return {
        "requestId": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "deadlineMs": int(time.time() * 1000) + context.get_remaining_time_in_millis(),
        "function": context.function_name,
        "handler": os.environ["_HANDLER"],
        "uid": os.getuid(),
        "invocations": invocations,
    }
