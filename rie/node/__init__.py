"""One node: everything of a manager, built from the bottom to the top, opened and closed in one place.

data, endpoints, engine     the data directory; what runs beside, what functions reach; the engine of the settings
ground                      what all other parts stand on: engine, database, clients, keys, logs
crossing                    from the control plane's threads to the event loop
runs                        what runs functions: pool, invoker, asynchronous events, durable executions
control                     what keeps functions: catalog, ledger, deployment, the rules over them
doors                       what answers requests
node                        all of it, and the order of opening and closing
"""

from rie.node.data import prepare_data
from rie.node.engine import engine_for
from rie.node.node import Node

__all__ = ["Node", "engine_for", "prepare_data"]
