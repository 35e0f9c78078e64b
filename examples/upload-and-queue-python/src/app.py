from urllib.parse import unquote_plus


def on_upload(event, context):
    for record in event.get("Records", []):
        bucket, thing = record["s3"]["bucket"]["name"], record["s3"]["object"]
        # Keys come as they are in a URL: a space is a plus.
        print(f"arrived: {bucket}/{unquote_plus(thing['key'])}, {thing['size']} bytes")


def on_task(event, context):
    for record in event["Records"]:
        print(f"task {record['messageId']}: {record['body']}")
