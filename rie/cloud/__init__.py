"""A compatible endpoint for AWS's services beside the manager: `child` keeps it running, `endpoint` is the program."""
