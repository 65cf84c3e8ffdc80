"""Ray: its start, the shared budget of requests, the flow of a build over a cluster, training in its workers."""
