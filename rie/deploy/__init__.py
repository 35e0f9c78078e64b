"""SAM and CloudFormation templates made into functions at the manager, and into queues, buckets … at an endpoint.

    template ─► packaging ─► sam ─► (intrinsics, graph) ─► plan ─► stack ─► resources/
    YAML        local code   CFN     values, order          pure    acts     boto3

`template`, `intrinsics`, `graph`, `plan` decide and touch nothing; `stack` acts and keeps `state` as it goes.
"""
