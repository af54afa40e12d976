"""Everything that speaks to the API server, through `kubectl proxy` on a private Unix socket."""
