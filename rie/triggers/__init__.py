"""Triggers: buckets, topics and rules of a compatible endpoint invoke functions, as the services do (lambda.md §10).

cloud.endpoint ─ lines ─► intake ─► invoker (Event, as the service, under the function's policy) ─► events.queue
subscriptions ─ queues ─►   │
scheduler ──── rules ──►    ▼
          ─ schedules ► attempts
                         documents · inputs · schedules · timetables (pure)
"""
