"""PID 1 of a Lambda image: Runtime API, supervision of the runtime, and the front door that callers use."""
