"""API Gateway's proxy integrations: routes to functions, requests to events, answers to responses; no sockets here.

door ─► definitions (file · endpoint) ─► routes (pure) ─► events (pure) ─► invoker ─► responses (pure)
"""
