"""Who calls, what he may do, and what functions may do: signatures, policies, credentials. Imports no framework."""
