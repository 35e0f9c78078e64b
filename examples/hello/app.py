"""A function as it is written for the service; nothing in it knows where it runs."""

import os
import platform


def handler(event, context):
    """Greet whom the event names."""
    print(f"hello from {context.function_name}, request {context.aws_request_id}")
    return {
        "message": f"Hello, {event.get('name', 'world')}!",
        "python": platform.python_version(),
        "memory_mb": os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
