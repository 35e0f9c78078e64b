import json
import os


def handler(event, context):
    """What is listed in the answer comes back; the rest of the batch is done with."""
    failures = []
    for record in event["Records"]:
        try:
            order = json.loads(record["body"])
            if not order["total"] > 0:
                raise ValueError(f"a total of {order['total']}")
            print(f"order {order['id']}: {order['total']:.2f} {os.environ['CURRENCY']}")
        except (ValueError, KeyError, TypeError) as error:
            print(f"order of message {record['messageId']} refused: {error}")
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
