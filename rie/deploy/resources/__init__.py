"""The types of resources that can be deployed: a module for each family, a class for each type."""

from __future__ import annotations

from rie.deploy.resources import (
    apis,
    around_functions,
    buckets,
    functions,
    queues,
    roles,
    rules,
    schedules,
    streams,
    topics,
)
from rie.deploy.resources.base import ResourceType

TYPES: dict[str, ResourceType] = {
    each.type: each
    for each in (
        functions.Function(),
        functions.Version(),
        functions.LayerVersion(),
        around_functions.Alias(),
        around_functions.Permission(),
        around_functions.Url(),
        around_functions.EventInvokeConfig(),
        around_functions.EventSourceMapping(),
        queues.Queue(),
        queues.QueuePolicy(),
        topics.Topic(),
        topics.TopicPolicy(),
        topics.Subscription(),
        buckets.Bucket(),
        buckets.BucketPolicy(),
        streams.Table(),
        streams.Stream(),
        rules.Rule(),
        rules.EventBus(),
        rules.LogGroup(),
        schedules.Schedule(),
        schedules.ScheduleGroup(),
        apis.HttpApi(),
        apis.HttpStage(),
        apis.RestApi(),
        apis.Deployment(),
        apis.RestStage(),
        roles.Role(),
        roles.Policy(),
    )
}
"""By what templates call them."""
