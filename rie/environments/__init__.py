"""Execution environments: started, reused one invocation at a time, evicted when idle.

Everything here lives on the manager's event loop and is touched only there, so nothing locks. Imports neither the API
nor the store: it is told which function to run, and by which configuration.
"""
