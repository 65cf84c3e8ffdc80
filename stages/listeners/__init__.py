"""What stages share that use models: models of the hub, and batches across videos."""
