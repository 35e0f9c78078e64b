"""The asynchronous queue: events acknowledged once they are durable, run until they end, told to destinations.

    invoker ─► queue ─► journal (group commit) ─► store
                 └► dispatcher ─► policy (pure) ─► deliveries ─► destinations

Nothing acknowledged is lost: an event leaves the store in the transaction that writes down what its destinations are
to be told, and a delivery leaves it once it has arrived. Both may happen twice around a crash, never not at all.
"""
