"""Event sources: pollers that read queues and streams, and invoke functions with what they find.

    supervisor ─► queue poller (SQS) ─┐
               └► stream poller ──────┴► batches (filter, invoke, replies) ─► invoke.invoker
                    └ kinesis · dynamodb

A message is deleted, and a checkpoint moved, only once the function has had it: around a crash it may have it twice.
"""
