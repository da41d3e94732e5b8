"""What a real Consul answers, and that the embedded agent answers the same."""
